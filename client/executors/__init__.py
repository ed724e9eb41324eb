"""How actions are carried out: one file per kind of action, behind the one interface of `executor.py`."""
