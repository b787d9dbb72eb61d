# libmemphis and memphisd. Two commands: `make run` and `make test`.
#
#   make                                the library, memphisd and the examples, in build/
#   make V=1                            shows the commands
#   make SAN=address,undefined test     likewise SAN=thread
#   make CC=clang test                  each compiler and sanitizer has its own folder
#   make TLS=openssl run                memphisd-openssl; else the TLS of memphisd is mbedTLS

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

CC := gcc
PREFIX ?= /usr/local
comma := ,
B := build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))$(if $(filter-out gcc,$(CC)),/$(CC))
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' '$(1)' '$(2)')

VERSION := 0.1.0
SONAME := libmemphis.so.0
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
        -Wvla -Wconversion
OPT ?= -O2 -g
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all \
            -fno-omit-frame-pointer -DMP_DEBUG)
CFLAGS_ALL := -std=c11 -D_GNU_SOURCE $(OPT) $(WARN) -fPIC -fvisibility=hidden \
              -ffunction-sections -fdata-sections -Iinclude $(SANFLAGS) $(CFLAGS)
TLS := mbedtls
MEMPHISD := $B/memphisd$(if $(filter-out mbedtls,$(TLS)),-$(TLS))
LIBS := -lsqlite3 -lcjson -lmbedcrypto -lcrypt -lpthread

LIB_SRC := $(sort $(wildcard lib/*/*.c))
LIB_OBJ := $(LIB_SRC:%.c=$B/%.o)
SERVER_SRC := $(filter-out server/tls_mbedtls.c server/tls_openssl.c,$(wildcard server/*.c))
SERVER_OBJ := $(patsubst %.c,$B/%.o,$(sort $(SERVER_SRC)))
SUPPORT_OBJ := $(patsubst %.c,$B/%.o,$(sort $(wildcard test/support/*.c)))
TEST_BIN := $(patsubst %.c,$B/%,$(sort $(wildcard test/unit/*/test_*.c test/sim/test_*.c)))
EXAMPLE_BIN := $(patsubst %.c,$B/%,$(sort $(wildcard examples/*.c)))
BENCH_BIN := $(patsubst %.c,$B/%,$(sort $(wildcard bench/*.c)))

.PHONY: all lib deps run test unit test-programs tidy sdk sdk-deps sdk-switched-off bench \
        clean install
all: lib $(MEMPHISD) $(EXAMPLE_BIN)
lib: $B/libmemphis.a $B/libmemphis.so $B/libmemphis.pc

$B/lib/%.o: lib/%.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -Ilib -MMD -MP -c -o $@ $<

$B/server/%.o: server/%.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -Iserver -MMD -MP -c -o $@ $<

$B/test/%.o: test/%.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -Wno-conversion -Ilib -Itest -MMD -MP -c -o $@ $<

$B/libmemphis.a: $(LIB_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$B/libmemphis.so: $(LIB_OBJ) lib/memphis.map
	$(call say,LINK,$@)
	$(Q)$(CC) -shared $(SANFLAGS) -Wl,-soname,$(SONAME) -Wl,--version-script=lib/memphis.map \
	    $(if $(SAN),,-Wl$(comma)-z$(comma)defs) -o $@ $(LIB_OBJ) -Wl,--gc-sections $(LIBS)
	$(Q)ln -sf libmemphis.so $B/$(SONAME)

# Works before `make install`: PKG_CONFIG_PATH=build pkg-config --cflags --libs libmemphis
$B/libmemphis.pc: Makefile tools/make-pc
	@mkdir -p $(@D)
	$(Q)tools/make-pc "$(CURDIR)/$B" "$(CURDIR)/include" "$(VERSION)" > $@

$B/libsupport.a: $(SUPPORT_OBJ)
	$(Q)mkdir -p $(@D) && rm -f $@ && ar rcs $@ $^

$B/memphisd: TLS_LIBS := -lmbedtls -lmbedx509
$B/memphisd-openssl: TLS_LIBS := -lssl -lcrypto
$B/memphisd: $B/server/tls_mbedtls.o
$B/memphisd-openssl: $B/server/tls_openssl.o
$B/memphisd $B/memphisd-openssl: $(SERVER_OBJ) $B/libmemphis.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(SANFLAGS) -o $@ $(filter %.o,$^) $B/libmemphis.a -Wl,--gc-sections -levent $(TLS_LIBS) $(LIBS)

$B/examples/%: examples/%.c $B/libmemphis.a
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -MF $@.d -o $@ $< $B/libmemphis.a -Wl,--gc-sections \
	    $(if $(findstring libevent,$<),-levent) $(LIBS)

$B/bench/%: bench/%.c $B/libmemphis.a
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -Wno-conversion -MMD -MP -MF $@.d -o $@ $< $B/libmemphis.a $(LIBS)

$B/test/%: $B/test/%.o $B/libsupport.a $B/libmemphis.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ -lcmocka $(LIBS)

# Objects of programs are kept: without this each second build makes them again.
.SECONDARY:

deps:
	@tools/deps $(if $(filter openssl,$(TLS)),libssl-dev)

run: deps
	@$(MAKE) --no-print-directory -s $(MEMPHISD)
	@$(MEMPHISD) $(ARGS)

# Everything that a developer's machine can run in ten minutes.
test: deps
	@$(MAKE) --no-print-directory tidy all
	@tools/run-tests --all $B

unit: $(TEST_BIN)
	@tools/run-tests $(TEST_BIN)

test-programs: $(TEST_BIN) $(EXAMPLE_BIN) $B/memphisd lib

tidy:
	@tools/tidy

sdk-deps:
	@test/sdk/deps

sdk: $B/memphisd
	@MEMPHISD=$B/memphisd test/sdk/run

# Each test against a memphisd without its feature: five minutes.
sdk-switched-off: $B/memphisd
	@mkdir -p $B/off && python3 test/sdk/switched_off.py $B $B/off

bench: $B/memphisd $(BENCH_BIN)
	@bench/run $B

install: lib $(MEMPHISD)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include/memphis \
	    $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 755 $(MEMPHISD) $(DESTDIR)$(PREFIX)/bin/memphisd
	install -m 644 include/memphis/*.h $(DESTDIR)$(PREFIX)/include/memphis/
	install -m 644 $B/libmemphis.a $(DESTDIR)$(PREFIX)/lib/
	install -m 755 $B/libmemphis.so $(DESTDIR)$(PREFIX)/lib/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libmemphis.so
	tools/make-pc "$(PREFIX)/lib" "$(PREFIX)/include" "$(VERSION)" \
	    > $(DESTDIR)$(PREFIX)/lib/pkgconfig/libmemphis.pc

clean:
	rm -rf build

-include test/wire/rules.mk bench/rules.mk test/fuzz/rules.mk test/sim/rules.mk
-include $(LIB_OBJ:.o=.d) $(SERVER_OBJ:.o=.d) $(wildcard $B/server/tls_*.d) $(SUPPORT_OBJ:.o=.d) $(TEST_BIN:=.d) \
    $(EXAMPLE_BIN:=.d) $(BENCH_BIN:=.d)
