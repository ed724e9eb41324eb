"""Where the binary begins. It is frozen by build.py; nothing imports it."""

import os
import sys

# What the loader needed to find its libraries is not for the programs that this one starts.
for name in [name for name in os.environ if name.startswith("_PYI_")]:
    del os.environ[name]
libraries = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
if libraries is None:
    os.environ.pop("LD_LIBRARY_PATH", None)
else:
    os.environ["LD_LIBRARY_PATH"] = libraries

from horologe.client import own_program  # noqa: E402

if not own_program.serve_frozen():
    from horologe.client.cli.main import main

    sys.exit(main())
