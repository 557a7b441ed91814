"""EX, EM, QM and IM: the only place where results and queries are compared."""
