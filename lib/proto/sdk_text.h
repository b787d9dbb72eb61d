/* proto/sdk_text.h -- texts that SDKs compare or parse, byte for byte, and who needs
 * them. The name rules are in base/str.c, settings in broker/station.c, PubAcks and
 * pull statuses in stream/. Tests pin every one. Thread: any (constants).
 */
#ifndef MP_PROTO_SDK_TEXT_H
#define MP_PROTO_SDK_TEXT_H

/* Go, JS and Python take a destruction whose text holds "not exist" as done; the
 * station's name is shown to the user by all. */
#define MP_TEXT_STATION_GONE "Station %s does not exist"
#define MP_TEXT_SCHEMA_GONE "Schema %s does not exist"
#define MP_TEXT_NOT_ALLOWED "user %s is not allowed to %s station %s"

/* Shown as they are by the SDKs; users and their tests match them. */
#define MP_TEXT_OLD_SDK "you are using an old SDK, make sure to update your SDK"
#define MP_TEXT_RETENTION_TYPE \
    "retention type can be one of the following message_age_sec/messages/bytes/" \
    "ack_based"
#define MP_TEXT_STORAGE_TYPE "storage type can be one of the following file/memory"
#define MP_TEXT_PRODUCER_TYPE \
    "producer type has to be one of the following application/connector"
#define MP_TEXT_PRODUCER_NO_STATION \
    "this station does not exist, a default station can not be created " \
    "automatically, please upgrade your SDK version"
#define MP_TEXT_PRODUCER_UPGRADE \
    "to produce to this station please upgrade your SDK version"
#define MP_TEXT_CONSUMER_TYPE \
    "consumer type has to be one of the following application/connector and not %s"
#define MP_TEXT_CONSUMER_NO_STATION \
    "This station does not exist, a default station can not be created " \
    "automatically, please upgrade your SDK version"
#define MP_TEXT_CONSUMER_UPGRADE \
    "to consume from this station please upgrade your SDK version"
#define MP_TEXT_START_SEQUENCE "startConsumeFromSequence has to be a positive number"
#define MP_TEXT_LAST_MESSAGES "min value for LastMessages is -1"
#define MP_TEXT_START_AND_LAST \
    "consumer creation options can't contain both startConsumeFromSequence and " \
    "lastMessages"

/* Not of the reference: what this release does not do. Must hold neither "already
 * exist" nor "not exist", which the SDKs take as success. */
#define MP_TEXT_NO_SCHEMAS "schemas are not supported by this release"

/* All SDKs but Java subscribe to it; "type" is compared by Go, JS, Python and .NET. */
#define MP_TEXT_CLIENTS_UPDATES "$memphis_sdk_clients_updates"
#define MP_TEXT_REMOVE_STATION "remove_station"
#define MP_TEXT_SCHEMA_TO_DLS "schemaverse_to_dls"

/* Old SDKs subscribe to it, with their connection id behind (sdk-protocol 2.7). */
#define MP_TEXT_INIT_SUBJECT "$memphis_configurations_updates.init."
#define MP_TEXT_INIT_NOTICE "{\"notifications\":false}"

/* CONNECT's lang of the SDKs that get an answer of their own: Java raises when a
 * successful consumer creation holds "error", JS counts partitions by key from 0. */
#define MP_TEXT_LANG_JAVA "java"
#define MP_TEXT_LANG_JS "nats.js"

/* The pingers of Go, JS, Python and .NET look for these two in the error's text: the
 * consumer is then reported as unreachable. */
#define MP_TEXT_CONSUMER_NOT_FOUND "consumer not found"
#define MP_TEXT_STREAM_NOT_FOUND "stream not found"

/* Clients take it as "ask again" (sdk-protocol 7.1). */
#define MP_TEXT_UNAVAILABLE "JetStream system temporarily unavailable"

#endif
