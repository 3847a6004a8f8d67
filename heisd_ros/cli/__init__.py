"""The command `heisd`: one module a sub-command."""
