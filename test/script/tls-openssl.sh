#!/bin/sh
# test/script/tls-openssl.sh BUILD: the same with the other backend, where OpenSSL's headers are.
[ -e /usr/include/openssl/ssl.h ] || {
    echo "NOT RUN - TLS by OpenSSL: libssl-dev is not installed"
    echo "0 passed, 0 failed"
    exit 0
}
make --no-print-directory -s "$1/memphisd-openssl" && exec test/script/tls.sh "$1" openssl
