#!/bin/sh
# rift-vectors as a person runs it: what it prints and how it ends, on good and bad files.
# usage: test_rift_vectors.sh PROGRAM FOLDER-WITH-VECTORS
set -u
program=$1 vectors=$2
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

# expect CODE TEXT FILE: the program must end with CODE and print TEXT
expect() {
    out=$("$program" "$3" 2>&1)
    code=$?
    if [ "$code" != "$1" ] || ! printf '%s' "$out" | grep -qF -- "$2"; then
        printf 'rift-vectors %s: ended %s, expected %s and "%s"; it printed:\n%s\n' "$3" "$code" "$1" "$2" "$out"
        failed=1
    fi
}

good=$vectors/Noise_XX_25519_ChaChaPoly_BLAKE2b.json
expect 0 "4 passed, 0 failed" "$good"

# One wrong digit in the last ciphertext of the first vector, and in a handshake hash.
sed 's/f8370af7"/f8370af6"/' "$good" >"$dir/ciphertext.json"
expect 1 "message 5 differs" "$dir/ciphertext.json"
sed 's/"handshake_hash": "8/"handshake_hash": "9/' "$good" >"$dir/hash.json"
expect 1 "handshake hash differs" "$dir/hash.json"
sed 's/_BLAKE2b"/_SHA256"/' "$good" >"$dir/protocol.json"
expect 1 "0 passed, 4 failed" "$dir/protocol.json"
expect 1 "skipped: protocol Noise_XX_25519_ChaChaPoly_SHA256 is not known" "$dir/protocol.json"
sed 's/"init_psks": \[\]/"init_psks": ["00"]/' "$good" >"$dir/psk.json"
expect 1 "pre-shared keys" "$dir/psk.json"
sed 's/"resp_static": "4a/"resp_static": "zz/' "$good" >"$dir/hex.json"
expect 1 '"resp_static" is not a string of hex digits' "$dir/hex.json"
sed 's/"init_ephemeral"/"other"/' "$good" >"$dir/field.json"
expect 1 'no field "init_ephemeral"' "$dir/field.json"
sed 's/"resp_static": "4a/"resp_static": "/' "$good" >"$dir/short.json"
expect 1 'has 31 bytes, not 32' "$dir/short.json"

head -c 3000 "$good" >"$dir/cut.json"
expect 65 "not JSON" "$dir/cut.json"
: >"$dir/empty.json"
expect 65 "not " "$dir/empty.json"
echo '[]' >"$dir/list.json"
expect 65 'no list "vectors"' "$dir/list.json"
echo '{"vectors": []}' >"$dir/none.json"
expect 65 "is empty" "$dir/none.json"
echo '{"vectors": [7, {}, {"protocol_name": 5}]}' >"$dir/odd.json"
expect 1 "0 passed, 3 failed" "$dir/odd.json"
expect 66 "can't be read" "$dir/absent.json"
expect 64 "usage" "--nonsense"
exit $failed
