# What somebody does who has nothing but the binary, in an empty folder. test_binary.py runs it on a bare Debian, as a user without rights.
set -eu
fail() { echo "FAILED: $1"; tail -n 5 n?/node.log worker.log; exit 1; }
eventually() {  # COMMAND...: every try starts a program, which is pause enough
    tries=0
    until "$@" > /dev/null 2>&1; do tries=$((tries + 1)); [ $tries -lt 200 ] || fail "$*"; done
}
for program in python python3 pip pip3; do ! command -v $program || fail "there is a $program"; done
[ "$(ls -A)" = horologe ] || fail "the folder is not empty: $(ls -A)"
export HOME=$PWD PATH=$PWD:$PATH

echo "== version"
horologe --version

echo "== certificates"
horologe tls init
for n in n1 n2 n3; do horologe tls issue node $n; done
horologe tls issue worker w1

echo "== three nodes"
for n in 1 2 3; do
    mkdir n$n
    cat > n$n/node.toml <<END
name = "n$n"
listen = "127.0.0.1:740$n"
worker_listen = "127.0.0.1:760$n"
peer_listen = "127.0.0.1:750$n"
http_listen = "127.0.0.1:770$n"
tls_dir = "../tls/nodes/n$n"
bootstrap_token_file = "../admin.token"
members = [
  {name = "n1", peer_address = "127.0.0.1:7501"},
  {name = "n2", peer_address = "127.0.0.1:7502"},
  {name = "n3", peer_address = "127.0.0.1:7503"},
]
END
    horologe node run --config n$n/node.toml 2> n$n/node.log &
done
eventually horologe node probe --ready --config n3/node.toml
eventually test -s admin.token
horologe login --address 127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403 \
    --worker-address 127.0.0.1:7601,127.0.0.1:7602,127.0.0.1:7603 --ca-file tls/ca.pem --token - < admin.token

echo "== a worker"
cat > handlers.py <<'END'
import sqlite3
from horologe.client import Context, Worker
worker = Worker(tls_dir="tls/workers/w1")

@worker.handler("add-up")
def add_up(context: Context) -> int:
    [total] = sqlite3.connect(":memory:").execute("SELECT ? + ?", context.payload).fetchone()
    context.write_output(f"handled {total}\n")
    return total
END
horologe worker run --tls-dir tls/workers/w1 --handlers handlers.py 2> worker.log &
worker=$!

echo "== jobs"
horologe job create shell --every 1h --shell 'env; echo "sum $((40 + 2))"'
horologe job create python --every 1h --python add-up --payload '[20, 3]'
eventually sh -c 'horologe worker list | grep -q w1'
horologe job run shell --wait
horologe job run python --wait
horologe execution logs 1
horologe execution logs 2

echo "== failover"
leader=$(horologe cluster status -o json | sed -n 's/^ *"leader": "\(n[0-9]\)".*/\1/p')
kill -9 "$(cat $leader/data/node.pid)"
horologe job run shell --force --wait
new=$(horologe cluster status -o json | sed -n 's/^ *"leader": "\(n[0-9]\)".*/\1/p')
[ "$new" != "$leader" ] && [ -n "$new" ] || fail "the leader was $leader and is $new"
horologe node run --config $leader/node.toml 2>> $leader/node.log &
eventually horologe node probe --ready --config $leader/node.toml
echo "led by $leader, then by $new"

echo "== the end"
kill -TERM $worker
wait $worker || fail "the worker ended with $?"
for n in n1 n2 n3; do kill -TERM "$(cat $n/data/node.pid)"; done
wait
for n in n1 n2 n3; do [ ! -e $n/data/node.pid ] || fail "$n did not end in good order"; done
echo "== done"
