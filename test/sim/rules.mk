# Long runs of the crash simulation: included by the Makefile.
#
#   make soak-crash [SEEDS=6-1000] [MINUTES=55]    ends in time and says where to go on

.PHONY: soak-crash
soak-crash: SEEDS ?= 6-1000
soak-crash: MINUTES ?= 55
soak-crash: $B/test/sim/test_crash
	$B/test/sim/test_crash $(SEEDS) $(MINUTES)
