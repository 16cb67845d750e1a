"""The tasks: multiple choice, labels as replies, running text, and answers compared with a solution."""
