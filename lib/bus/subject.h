/* bus/subject.h -- the grammar of subjects: tokens between dots, two wildcards.
 *
 * "*" as a whole token matches one token, ">" as the last token one or more. Inside a
 * longer token both are ordinary characters ("a>b", "x_*"), as are '$', '#' and UTF-8.
 * No empty token, no blank, tab, CR, LF (sdk-protocol 1.1). Thread: any (pure).
 */
#ifndef MP_BUS_SUBJECT_H
#define MP_BUS_SUBJECT_H

#include "base/str.h"

enum { MP_SUBJECT_TOKENS_MAX = 512 };

bool mp_subject_is_valid(memphis_slice s);   /* for a subscription: wildcards allowed */
bool mp_subject_is_literal(memphis_slice s); /* valid and without wildcard tokens */
bool mp_subject_matches(memphis_slice pattern, memphis_slice literal);
bool mp_subject_overlaps(memphis_slice a,
                         memphis_slice b); /* some literal matches both */
uint32_t mp_subject_tokens(memphis_slice s);
memphis_slice mp_subject_token(memphis_slice s, uint32_t n); /* n from 0; empty: none */

#endif
