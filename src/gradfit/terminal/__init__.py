"""Answers, tables and drawings as text for a terminal."""
