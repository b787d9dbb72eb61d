# The crash simulation and the model test: included by the Makefile.
#
#   make soak-crash [SEEDS=6-1000] [MINUTES=55]    ends in time and says where to go on
#   make soak-model [SEEDS=2501-1000000] [MINUTES=55]   likewise
#   make reach          what the simulation does not reach in lib/store; must be nothing

.PHONY: soak-crash soak-model reach
soak-crash: SEEDS ?= 6-1000
soak-crash: MINUTES ?= 55
soak-crash: $B/test/sim/test_crash
	$B/test/sim/test_crash $(SEEDS) $(MINUTES)

soak-model: SEEDS ?= 2501-1000000
soak-model: MINUTES ?= 55
soak-model: $B/test/sim/test_model
	$B/test/sim/test_model $(SEEDS) $(MINUTES)

reach:
	@test/sim/reach
