# For scripts that source this: starts the stand-in, and sets $sandbox to its process and $url to its address.
# Usage: start_sandbox PROGRAM LOG [ARGUMENT]...
start_sandbox() {
    local bin=$1 log=$2
    shift 2
    export PASSFORT_API_KEY=test
    "$bin" sandbox --listen 127.0.0.1:0 "$@" >"$log" 2>&1 &
    sandbox=$!
    until grep -qos 'http://[^ ]*' "$log"; do kill -0 "$sandbox"; done
    url=$(grep -o 'http://[^ ]*' "$log" | head -1)
    url=${url%/}
}
