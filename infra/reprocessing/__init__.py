"""Reprocessing: opening landed deliveries again after their window, by the Caldicott Guardian and the SIRO together.

Inside its window the pipeline opens a delivery by itself. Afterwards its half of the key is gone, and what remains are
the two officers' shares. :mod:`infra.reprocessing.request` asks for them, :mod:`infra.reprocessing.approval` is what an
officer does on the own machine, :mod:`infra.reprocessing.reopening` joins what two of them released, once, in memory.
"""
