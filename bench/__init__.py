"""The bench: Coatcheck beside the pipeline that people build today, measured in one run on one machine.

`python -m bench` starts all servers itself and keeps what it found in ``bench/results/``.
"""
