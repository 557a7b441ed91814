"""Exact set match (EM): are the clauses of two queries equal as sets?"""
