"""Rules for the whole tree that no type checker, linter or unit test can check."""
