"""The ledger: every job and every change of its state, in MongoDB.

Each change is one conditional write on one document. The modules follow the life of a job:
`register`, `settle` (finish and claim), `heartbeats`, `orders` (cancel, delete), `queries`,
`catalogue`, and `sweep`, which repairs what a lost message left undone.
"""
