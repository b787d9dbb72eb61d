"""The official Python SDK (memphis-py), unmodified, against memphisd.

Usage: main.py PORT [ID...]. Environment: DAEMON_RESTART, a command that restarts memphisd;
TOKEN_PORT, a memphisd in token mode. Prints "ok - py IDS text" or "FAILED - ..." per test
and ends with "N passed, N failed". With ids: only the tests that show one of them.
"""
import asyncio
import logging
import sys
import warnings

import harness
import con, csm, dls, pro, sta, usr  # noqa: E401,F401: their tests

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
sys.exit(1 if asyncio.run(harness.run_all()) else 0)
