#!/usr/bin/env bash
# What the page of `view` is drawn with, from the npm registry: these versions, with these contents.
# Each file is the package's own minified build, with its licence before it. Needs npm; views need nothing.
set -euo pipefail
cd "$(dirname "$0")/vendor"
out=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
while read -r name version file integrity; do
    archive=$(npm pack --silent "$name@$version")
    found=sha512-$(openssl dgst -sha512 -binary "$archive" | openssl base64 -A)
    if [ "$found" != "$integrity" ]; then
        echo "$name $version: $found, expected $integrity" >&2
        exit 1
    fi
    tar xzf "$archive"
    {
        printf '/*! %s %s\n\n' "$name" "$version"
        cat package/LICENSE
        printf '*/\n'
        sed '/^\/\/# sourceMappingURL=/d' "package/$file"
    } > "$out/$(basename "$file")"
    rm -r package "$archive"
done < "$out/versions"
