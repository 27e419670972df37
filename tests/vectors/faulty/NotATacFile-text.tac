TAC, in plain text
