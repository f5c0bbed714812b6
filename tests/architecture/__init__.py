"""What holds for the whole tree and no type checker, linter or unit test can say."""
