#!/bin/sh
# What changes are compared with: the commit where this branch left main, or, on main itself, the
# last one that is older than a day. Nothing if the clone does not reach back so far.
for main in origin/main main; do
    base=$(git merge-base HEAD "$main" 2>/dev/null) || continue
    if [ "$base" != "$(git rev-parse HEAD)" ]; then
        echo "$base"
        exit
    fi
done
git rev-list -1 --before="1 day ago" HEAD
