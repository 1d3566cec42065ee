"""Generated wire code: made by `make proto`, never edited."""
