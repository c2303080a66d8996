#!/bin/sh
# Print constraints for pip: the oldest libraries that pyproject.toml of the core and of the plugins
# allow together, with what developers need left at its newest. Needs uv, since pip always takes the
# newest.
{
    echo "-e .[train,evaluate,parquet,plugin]"
    for plugin in plugins/*; do echo "-e ./$plugin"; done
} >oldest.in
uv pip compile --quiet --no-annotate --no-header --resolution lowest-direct oldest.in | grep -v "^-e"
rm oldest.in
