"""What people read: tables, summaries, plots, results of trainings.

Imports everything else of `wrpn_tf`; nothing of `wrpn_tf` imports it but the programs.
"""
