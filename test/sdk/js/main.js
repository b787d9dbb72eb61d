// The official JavaScript SDK (memphis-dev), unmodified, against memphisd.
//
// Usage: node main.js PORT [ID...]. Environment: DAEMON_RESTART, a command that restarts
// memphisd; TOKEN_PORT, a memphisd in token mode. Prints "ok - js IDS text" or "FAILED - ..."
// per test and ends with "N passed, N failed". With ids: only tests that show one of them.
const { runAll } = require('./harness')

for (const area of ['con', 'sta', 'pro', 'csm', 'dls', 'usr']) require(`./${area}`)
runAll().then((failed) => process.exit(failed ? 1 : 0))
