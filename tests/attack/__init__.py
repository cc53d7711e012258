"""Attacks on fastbp, one module a part: ``python -m tests.attack [part ...] --minutes N``.

A part is a module with ``run(seconds, seed)``: it attacks for about so long, raises where something has broken, and
returns what it has done, by name: ``{"networks": 120, ...}``. Its first docstring line says what it does.
"""
