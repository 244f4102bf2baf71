"""The dashboard: a page in `static/` that shows what the API tells, and the handlers that serve its files.

The page knows nothing that the API does not answer to anybody; there is no route here that hands out data.
"""
