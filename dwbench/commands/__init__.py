"""The commands of `dwbench`, one function each; a UserError is a line on stderr and exit code 2."""
