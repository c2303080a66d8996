#!/bin/sh
# Makes ../static out of this folder; needs Node 18 or newer, and npm's index. The wheel has both.
set -eu
cd "$(dirname "$0")"
npm ci --ignore-scripts --no-audit --no-fund
rm -rf ../static && mkdir ../static
sources=$(cat *.js *.css page.html package-lock.json | sha256sum | cut -c1-64)
npx esbuild main.js --bundle --minify --format=iife --target=chrome120,firefox120,safari17 \
    --banner:js="/* made by source/bundle.sh of $sources */" --legal-comments=none \
    --outfile=../static/page.js
npx esbuild style.css --minify --outfile=../static/page.css
cp page.html ../static/page.html
# The licences of what is inside page.js.
for package in d3-color d3-dispatch d3-drag d3-ease d3-interpolate d3-quadtree d3-selection d3-timer \
    d3-transition d3-zoom; do
    printf '%s %s\n\n' "$package" "$(node -p "require('./node_modules/$package/package.json').version")"
    cat "node_modules/$package/LICENSE"
    printf '\n----\n\n'
done >../static/LICENSES.txt
rm -rf node_modules
