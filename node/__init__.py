"""What only this process cares about: its clock, its network, its callers, its workers."""

import os

# TLS 1.3 only. gRPC has no option for the least version, but one for the cipher suites of TLS 1.2: with a single suite that needs
# a shared secret, which nobody has, that version cannot be spoken, and TLS 1.3 has suites of its own. gRPC reads it once, when it
# is imported, hence here; `tls.check_tls_versions` looks whether it was in time.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-PSK-AES128-CBC-SHA"
# Who cannot shake hands is not worth a line that is not JSON; errors are still told.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
