"""Figures for papers, from records alone. A module a group of kinds; `style` says how all of them look."""
