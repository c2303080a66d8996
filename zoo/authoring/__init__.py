"""For those who write plugins: a new plugin's files, and the checks of the contract."""
