"""The command line: one file a command group, each reading its options from a dataclass."""
