"""Pictures, tables and files written while a method runs."""
