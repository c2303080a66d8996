"""For the authors of plugins: the template of a new plugin, and the checks of the contract."""
