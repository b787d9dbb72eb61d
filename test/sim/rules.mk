# The crash simulation: included by the Makefile.
#
#   make soak-crash [SEEDS=6-1000] [MINUTES=55]    ends in time and says where to go on
#   make reach          what the simulation does not reach in lib/store; must be nothing

.PHONY: soak-crash reach
soak-crash: SEEDS ?= 6-1000
soak-crash: MINUTES ?= 55
soak-crash: $B/test/sim/test_crash
	$B/test/sim/test_crash $(SEEDS) $(MINUTES)

reach:
	@test/sim/reach
