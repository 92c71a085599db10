#!/usr/bin/env bash
# A like, a page of likers and a handled rate limit, by curl. HTTP_ADDR is the address of a server.
set -euo pipefail
base=http://${HTTP_ADDR:-127.0.0.1:8893}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

like() { # USER VIDEO: once it is said, and again after the seconds that a refusal names, by the same key
    local key="$1-$2-$(date +%s)-$RANDOM$RANDOM"
    while :; do
        code=$(curl --silent --show-error --output "$work/answer" --dump-header "$work/head" --write-out '%{http_code}' \
            --header 'content-type: application/json' "$base/v1/likes" \
            --data '{"user_id":"'"$1"'","resource_type":"video","resource_id":"'"$2"'","action":"like","idempotency_key":"'"$key"'"}')
        case $code in
        200) cat "$work/answer" && echo && return ;;
        429 | 503)
            wait=$(tr -d '\r' <"$work/head" | sed -n 's/^retry-after: //p')
            echo "limited: wait $wait s"
            sleep "$wait"
            ;;
        *) cat "$work/answer" >&2 && return 1 ;;
        esac
    done
}

like 1001 42
for video in {1000..1199}; do
    said=$(like 1001 "$video")
    if [[ $said == limited* ]]; then
        echo "$said"
        break
    fi
done
curl --silent --show-error --fail "$base/v1/likers?resource_type=video&resource_id=42&page_size=10" && echo
