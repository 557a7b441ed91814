"""Execution match (EX): do two queries return the same?"""
