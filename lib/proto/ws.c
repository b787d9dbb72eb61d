#include "proto/ws.h"

#include "base/assert.h"
#include "base/crypto.h"
#include "base/enc.h"
#include "base/limits.h"
#include "base/str.h"

enum { HEAD, HEADER, PAYLOAD, OVER };

enum { FIN = 0x80, RESERVED = 0x70, OPCODE = 0x0f, MASKED = 0x80, LENGTH = 0x7f };
enum { SIZE_16 = 126, SIZE_64 = 127, MASK_SIZE = 4, KEY_SIZE = 24, NONCE_SIZE = 16 };

static const char key_suffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

static enum mp_ws_event failed(struct mp_ws *w, uint32_t status, const char *why)
{
    mp_buf_fini(&w->head);
    w->state = OVER;
    w->status = status;
    w->why = why;
    return MP_WS_FAILED;
}

static memphis_slice taken(memphis_slice *in, size_t n)
{
    memphis_slice front = mp_slice(in->data, n);

    *in = mp_slice((const uint8_t *)in->data + n, in->size - n);
    return front;
}

/* -- the request ------------------------------------------------------------------ */

enum field { HOST, KEY, VERSION, UPGRADE, CONNECTION, LENGTH_OF_BODY, CODING, FIELDS };

static const char *const fields[FIELDS] = {
    [HOST] = "host",
    [KEY] = "sec-websocket-key",
    [VERSION] = "sec-websocket-version",
    [UPGRADE] = "upgrade",
    [CONNECTION] = "connection",
    [LENGTH_OF_BODY] = "content-length",
    [CODING] = "transfer-encoding",
};

struct request {
    memphis_slice method, target, version;
    uint32_t counts[FIELDS];
    memphis_slice values[FIELDS]; /* the last one */
    bool upgrades, connects;      /* the lists name what they must */
};

static memphis_slice trimmed(memphis_slice s)
{
    const char *at = s.data;

    while (s.size > 0 && (*at == ' ' || *at == '\t'))
        at++, s.size--;
    while (s.size > 0 && (at[s.size - 1] == ' ' || at[s.size - 1] == '\t'))
        s.size--;
    return mp_slice(at, s.size);
}

static bool lists(memphis_slice list, const char *token)
{
    while (list.size > 0) {
        memphis_slice one = trimmed(mp_slice_split(&list, ','));

        if (mp_slice_equal_fold(one, mp_slice_text(token)))
            return true;
    }
    return false;
}

static bool is_token(memphis_slice s)
{
    const uint8_t *at = s.data;

    for (size_t i = 0; i < s.size; i++)
        if (at[i] <= ' ' || at[i] >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", at[i]))
            return false;
    return s.size > 0;
}

/* What a line may hold: text and tabs. */
static bool is_text(memphis_slice s)
{
    const uint8_t *at = s.data;

    for (size_t i = 0; i < s.size; i++)
        if ((at[i] < ' ' && at[i] != '\t') || at[i] == 0x7f)
            return false;
    return true;
}

/* False: the head has no more. Its end, an empty line, is there. */
static bool next_line(memphis_slice *head, memphis_slice *line)
{
    const char *start = head->data;
    const char *end = memchr(start, '\r', head->size);

    while (end != NULL && end[1] != '\n') /* a lone one stays in its line */
        end = memchr(end + 1, '\r', head->size - (size_t)(end + 1 - start));
    mp_assert(end != NULL);
    *line = taken(head, (size_t)(end - start));
    taken(head, 2);
    return line->size > 0;
}

static bool read_field(struct request *r, memphis_slice line)
{
    const char *colon = memchr(line.data, ':', line.size);
    memphis_slice name, value = line;

    if (colon == NULL || !is_text(line))
        return false;
    name = taken(&value, (size_t)(colon - (const char *)line.data));
    taken(&value, 1);
    value = trimmed(value);
    if (!is_token(name)) /* a blank before the colon, a folded line */
        return false;
    for (int i = 0; i < FIELDS; i++)
        if (mp_slice_equal_fold(name, mp_slice_text(fields[i]))) {
            r->counts[i]++;
            r->values[i] = value;
            r->upgrades |= i == UPGRADE && lists(value, "websocket");
            r->connects |= i == CONNECTION && lists(value, "upgrade");
        }
    return true;
}

static bool read_request(struct request *r, memphis_slice head)
{
    memphis_slice line;

    if (!next_line(&head, &line) || !is_text(line))
        return false;
    r->method = mp_slice_split(&line, ' ');
    r->target = mp_slice_split(&line, ' ');
    r->version = line;
    if (!is_token(r->method) || r->target.size == 0 ||
        !mp_slice_equal(r->version, MP_STR("HTTP/1.1")))
        return false;
    while (next_line(&head, &line))
        if (!read_field(r, line))
            return false;
    return true;
}

static bool is_key(memphis_slice key)
{
    uint8_t nonce[KEY_SIZE / 4 * 3];
    size_t size;

    return key.size == KEY_SIZE && mp_base64_decode(key.data, key.size, nonce, &size) &&
           size == NONCE_SIZE;
}

static void make_accept(struct mp_ws *w, memphis_slice key)
{
    uint8_t text[KEY_SIZE + sizeof key_suffix - 1], digest[MP_SHA1_SIZE];

    memcpy(text, key.data, KEY_SIZE);
    memcpy(text + KEY_SIZE, key_suffix, sizeof key_suffix - 1);
    mp_sha1(text, sizeof text, digest);
    mp_base64_encode(digest, sizeof digest, w->accept);
}

static enum mp_ws_event judge(struct mp_ws *w, memphis_slice head)
{
    struct request r = { 0 };

    if (!read_request(&r, head))
        return failed(w, 400, "this is no HTTP/1.1 request");
    if (!mp_slice_equal(r.method, MP_STR("GET")))
        return failed(w, 405, "a WebSocket is opened with GET");
    if (r.counts[HOST] != 1)
        return failed(w, 400, "the request must have one Host");
    if (r.counts[CODING] > 0 || r.counts[LENGTH_OF_BODY] > 1 ||
        (r.counts[LENGTH_OF_BODY] == 1 &&
         !mp_slice_equal(r.values[LENGTH_OF_BODY], MP_STR("0"))))
        return failed(w, 400, "the request must have no body");
    if (!r.upgrades || !r.connects)
        return failed(w, 426, "this port speaks WebSocket (RFC 6455)");
    if (r.counts[VERSION] != 1 || !mp_slice_equal(r.values[VERSION], MP_STR("13")))
        return failed(w, 426, "this port speaks version 13 of WebSocket");
    if (r.counts[KEY] != 1 || !is_key(r.values[KEY]))
        return failed(w, 400, "Sec-WebSocket-Key must be 16 bytes in base64");
    make_accept(w, r.values[KEY]);
    mp_buf_fini(&w->head);
    w->state = HEADER;
    return MP_WS_OPEN;
}

static enum mp_ws_event read_head(struct mp_ws *w, memphis_slice *in)
{
    static const char end[] = "\r\n\r\n";
    size_t before = w->head.size, room = MP_WS_HEAD_MAX - before;
    size_t more = in->size < room ? in->size : room;
    const uint8_t *found;

    if (more == 0)
        return MP_WS_MORE;
    /* Another protocol shows at once: a method has capitals. */
    if (before == 0 && (*(const uint8_t *)in->data < 'A' ||
                        *(const uint8_t *)in->data > 'Z'))
        return failed(w, 400, "this is no HTTP/1.1 request");
    if (!mp_buf_reserve_try(&w->head, more))
        return failed(w, 503, "out of memory");
    mp_buf_put(&w->head, in->data, more);
    size_t from = before < sizeof end - 2 ? 0 : before - (sizeof end - 2);
    found = memmem(w->head.data + from, w->head.size - from, end, sizeof end - 1);
    if (found != NULL) {
        size_t size = (size_t)(found - w->head.data) + sizeof end - 1;

        taken(in, size - before);
        return judge(w, mp_slice(w->head.data, size));
    }
    taken(in, more);
    if (w->head.size == MP_WS_HEAD_MAX)
        return failed(w, 431, "the head of the request has more than 8 KiB");
    return MP_WS_MORE;
}

/* -- frames ----------------------------------------------------------------------- */

static uint8_t opcode_of(const struct mp_ws *w)
{
    return w->header[0] & OPCODE;
}

static bool is_control(const struct mp_ws *w)
{
    return opcode_of(w) >= MP_WS_CLOSE_FRAME;
}

static uint32_t length_size(const struct mp_ws *w) /* of the field behind two bytes */
{
    uint8_t length = w->header[1] & LENGTH;

    return length == SIZE_16 ? 2 : length == SIZE_64 ? 8 : 0;
}

/* What the first two bytes must not be; NULL: they are in order. */
static const char *header_error(const struct mp_ws *w)
{
    uint8_t opcode = opcode_of(w);

    if (w->header[0] & RESERVED)
        return "a reserved bit is set";
    if (opcode > MP_WS_PONG_FRAME ||
        (opcode > MP_WS_BINARY && opcode < MP_WS_CLOSE_FRAME))
        return "the opcode is unknown";
    if (!(w->header[1] & MASKED))
        return "frames of a client must be masked";
    if (is_control(w) && !(w->header[0] & FIN))
        return "a control frame must not be fragmented";
    if (is_control(w) && length_size(w) > 0)
        return "a control frame has more than 125 bytes";
    if (opcode == MP_WS_CONTINUATION && !w->in_message)
        return "there is no message to continue";
    if ((opcode == MP_WS_TEXT || opcode == MP_WS_BINARY) && w->in_message)
        return "the message before has not ended";
    return NULL;
}

/* The length is there. */
static enum mp_ws_event read_length(struct mp_ws *w)
{
    uint32_t field = length_size(w);
    uint64_t size = w->header[1] & LENGTH, cost;

    if (field > 0) {
        size = 0;
        for (uint32_t i = 0; i < field; i++)
            size = size << 8 | w->header[2 + i];
    }
    if (size >> 63 != 0)
        return failed(w, MP_WS_PROTOCOL_ERROR, "a length has 64 bits");
    if (field > 0 && size < (field == 2 ? SIZE_16 : 1u << 16))
        return failed(w, MP_WS_PROTOCOL_ERROR, "a length is longer than it must be");
    w->left = size;
    if (is_control(w))
        return MP_WS_MORE;
    cost = size + 2 + field + MASK_SIZE;
    if (cost > MP_WS_MESSAGE_MAX - w->message_size)
        return failed(w, MP_WS_TOO_BIG, "a message has more than 64 MiB");
    w->in_message = !(w->header[0] & FIN);
    w->message_size = w->in_message ? w->message_size + cost : 0;
    return MP_WS_MORE;
}

/* MORE: it is as far as the bytes go; state PAYLOAD: it is whole. */
static enum mp_ws_event read_header(struct mp_ws *w, memphis_slice *in)
{
    while (in->size > 0) {
        memphis_slice byte = taken(in, 1);

        w->header[w->header_size++] = *(const uint8_t *)byte.data;
        if (w->header_size == 2 && header_error(w) != NULL)
            return failed(w, MP_WS_PROTOCOL_ERROR, header_error(w));
        if (w->header_size < 2)
            continue;
        if (w->header_size == 2 + length_size(w) && read_length(w) == MP_WS_FAILED)
            return MP_WS_FAILED;
        if (w->header_size == 2 + length_size(w) + MASK_SIZE) {
            w->state = PAYLOAD;
            w->mask_at = w->header_size - MASK_SIZE;
            w->control_size = 0;
            break;
        }
    }
    return MP_WS_MORE;
}

/* Eight bytes at a time; the mask goes on where the piece before ended. */
static void unmask(struct mp_ws *w, uint8_t *out, memphis_slice in)
{
    uint8_t *mask = w->header + w->mask_at;
    const uint8_t *from = in.data;
    uint8_t wide[8];
    uint64_t key, word;
    size_t i = 0;

    for (int j = 0; j < 8; j++)
        wide[j] = mask[j % MASK_SIZE];
    memcpy(&key, wide, sizeof key);
    for (; in.size - i >= sizeof word; i += sizeof word) {
        memcpy(&word, from + i, sizeof word);
        word ^= key;
        memcpy(out + i, &word, sizeof word);
    }
    for (; i < in.size; i++)
        out[i] = from[i] ^ wide[i % sizeof wide];
    for (size_t j = 0; j < MASK_SIZE; j++)
        mask[j] = wide[(in.size + j) % MASK_SIZE];
    w->left -= in.size;
}

static bool is_close_code(uint32_t code)
{
    return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 &&
            code != 1006) ||
           (code >= 3000 && code <= 4999);
}

static enum mp_ws_event peer_closes(struct mp_ws *w)
{
    const uint8_t *c = w->control;

    if (w->control_size == 0) {
        w->status = MP_WS_NO_CODE;
    } else {
        w->status = w->control_size > 1 ? (uint32_t)(c[0] << 8 | c[1]) : 0;
        if (!is_close_code(w->status))
            return failed(w, MP_WS_PROTOCOL_ERROR, "a close frame has no valid code");
        if (!mp_utf8_is_valid(mp_slice(c + 2, w->control_size - 2)))
            return failed(w, MP_WS_BAD_TEXT, "the reason of a close is no UTF-8");
    }
    w->state = OVER;
    w->is_closed_by_peer = true;
    w->why = "the client closed the connection";
    return MP_WS_CLOSE;
}

static enum mp_ws_event read_control(struct mp_ws *w, memphis_slice *in)
{
    size_t n = in->size < w->left ? in->size : (size_t)w->left;

    unmask(w, w->control + w->control_size, taken(in, n));
    w->control_size += (uint32_t)n;
    if (w->left > 0)
        return MP_WS_MORE;
    w->state = HEADER;
    w->header_size = 0;
    if (opcode_of(w) == MP_WS_CLOSE_FRAME)
        return peer_closes(w);
    return opcode_of(w) == MP_WS_PING_FRAME ? MP_WS_PING : MP_WS_MORE;
}

static enum mp_ws_event read_payload(struct mp_ws *w, memphis_slice *in, void *room,
                                     size_t room_size, size_t *size)
{
    size_t n = in->size < room_size ? in->size : room_size;

    n = n < w->left ? n : (size_t)w->left;
    unmask(w, room, taken(in, n));
    *size = n;
    if (w->left == 0) {
        w->state = HEADER;
        w->header_size = 0;
    }
    return n > 0 ? MP_WS_DATA : MP_WS_MORE;
}

enum mp_ws_event mp_ws_read(struct mp_ws *w, memphis_slice *in, void *room,
                            size_t room_size, size_t *size)
{
    enum mp_ws_event e = MP_WS_MORE;

    mp_assert(w->state != OVER && room_size > 0);
    *size = 0;
    /* An empty payload is taken although no byte is left for it. */
    while (e == MP_WS_MORE &&
           (in->size > 0 || (w->state == PAYLOAD && w->left == 0))) {
        if (w->state == HEAD)
            e = read_head(w, in);
        else if (w->state == HEADER)
            e = read_header(w, in);
        else if (is_control(w))
            e = read_control(w, in);
        else
            e = read_payload(w, in, room, room_size, size);
    }
    return e;
}

bool mp_ws_is_over(const struct mp_ws *w)
{
    return w->state == OVER;
}

void mp_ws_fini(struct mp_ws *w)
{
    mp_buf_fini(&w->head);
}

/* -- what the server says --------------------------------------------------------- */

void mp_ws_put_accept(struct mp_buf *out, const struct mp_ws *w)
{
    mp_buf_format(out,
                  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                  "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                  w->accept);
}

static const struct refusal {
    uint32_t status;
    const char *phrase, *fields;
} refusals[] = {
    { 400, "Bad Request", "Connection: close\r\n" },
    { 405, "Method Not Allowed", "Allow: GET\r\nConnection: close\r\n" },
    { 408, "Request Timeout", "Connection: close\r\n" },
    { 426, "Upgrade Required",
      "Upgrade: websocket\r\nConnection: Upgrade, close\r\n" },
    { 431, "Request Header Fields Too Large", "Connection: close\r\n" },
    { 503, "Service Unavailable", "Connection: close\r\n" },
};

void mp_ws_put_refusal(struct mp_buf *out, uint32_t http_status, const char *why)
{
    const struct refusal *r = refusals;

    while (r->status != http_status) {
        r++;
        mp_assert(r < refusals + sizeof refusals / sizeof refusals[0]);
    }
    mp_buf_format(out,
                  "HTTP/1.1 %u %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                  "Sec-WebSocket-Version: 13\r\nX-Content-Type-Options: nosniff\r\n"
                  "%sContent-Length: %zu\r\n\r\n%s: %s\n",
                  r->status, r->phrase, r->fields,
                  strlen(r->phrase) + strlen(": \n") + strlen(why), r->phrase, why);
}

size_t mp_ws_frame_header(uint8_t out[MP_WS_FRAME_HEADER_MAX], uint8_t opcode,
                          uint64_t payload_size)
{
    size_t field = payload_size < SIZE_16 ? 0 : payload_size < 1u << 16 ? 2 : 8;

    out[0] = (uint8_t)(FIN | opcode);
    out[1] = (uint8_t)(field == 0 ? payload_size : field == 2 ? SIZE_16 : SIZE_64);
    for (size_t i = 0; i < field; i++)
        out[2 + i] = (uint8_t)(payload_size >> 8 * (field - 1 - i));
    return 2 + field;
}

void mp_ws_put_close(struct mp_buf *out, uint32_t code, const char *reason)
{
    uint8_t header[MP_WS_FRAME_HEADER_MAX];
    memphis_slice text = mp_slice_text(reason);
    size_t size = 0;

    while (text.size > MP_WS_CONTROL_MAX - 2 ||
           (text.size > 0 && !mp_utf8_is_valid(text)))
        text.size--;
    if (code != MP_WS_NO_CODE)
        size = 2 + text.size;
    mp_buf_put(out, header, mp_ws_frame_header(header, MP_WS_CLOSE_FRAME, size));
    if (size > 0) {
        mp_buf_put_u8(out, (uint8_t)(code >> 8));
        mp_buf_put_u8(out, (uint8_t)code);
        mp_buf_put_slice(out, text);
    }
}
