// The client half of RTMP that the load clients need: writing messages and commands, reading the heads of messages.
#pragma once
#include "common.h"

enum { RTMP_SET_CHUNK = 1, RTMP_ACK = 3, RTMP_USER = 4, RTMP_AUDIO = 8, RTMP_VIDEO = 9, RTMP_DATA = 18, RTMP_COMMAND = 20 };
enum { HANDSHAKE_C0C1 = 1537, HANDSHAKE_S0S1S2 = 3073 };

// ---- writing ----

static inline uint8_t *amf_text(uint8_t *p, const char *s) {
  size_t n = strlen(s);
  *p++ = 2, *p++ = (uint8_t)(n >> 8), *p++ = (uint8_t)n;
  memcpy(p, s, n);
  return p + n;
}
static inline uint8_t *amf_number(uint8_t *p, double d) {
  uint64_t v;
  memcpy(&v, &d, 8);
  *p++ = 0;
  for (int i = 7; i >= 0; i--) *p++ = (uint8_t)(v >> (8 * i));
  return p;
}
static inline uint8_t *amf_key(uint8_t *p, const char *s) {
  size_t n = strlen(s);
  *p++ = (uint8_t)(n >> 8), *p++ = (uint8_t)n;
  memcpy(p, s, n);
  return p + n;
}

// One message (fmt 0), cut into chunks; returns the end of what was written.
static inline uint8_t *rtmp_message(uint8_t *o, int csid, uint32_t ts, int type, uint32_t stream, const uint8_t *d, int n, int chunk) {
  uint32_t t = ts >= 0xffffff ? 0xffffff : ts;
  *o++ = (uint8_t)csid;
  *o++ = (uint8_t)(t >> 16), *o++ = (uint8_t)(t >> 8), *o++ = (uint8_t)t;
  *o++ = (uint8_t)(n >> 16), *o++ = (uint8_t)(n >> 8), *o++ = (uint8_t)n, *o++ = (uint8_t)type;
  *o++ = (uint8_t)stream, *o++ = (uint8_t)(stream >> 8), *o++ = (uint8_t)(stream >> 16), *o++ = (uint8_t)(stream >> 24);
  for (int i = 0; i == 0 || i < n; i += chunk) {
    if (i) *o++ = (uint8_t)(0xc0 | csid);
    if (t == 0xffffff) *o++ = (uint8_t)(ts >> 24), *o++ = (uint8_t)(ts >> 16), *o++ = (uint8_t)(ts >> 8), *o++ = (uint8_t)ts;
    int k = n - i < chunk ? n - i : chunk;
    memcpy(o, d + i, (size_t)k);
    o += k;
  }
  return o;
}

static inline uint8_t *rtmp_connect(uint8_t *o, const char *app, const char *tc_url, int chunk) {
  uint8_t b[3 * URL_MAX], *p = b;
  p = amf_text(p, "connect"), p = amf_number(p, 1);
  *p++ = 3;
  p = amf_key(p, "app"), p = amf_text(p, app);
  p = amf_key(p, "type"), p = amf_text(p, "nonprivate");
  p = amf_key(p, "flashVer"), p = amf_text(p, "FMLE/3.0 (compatible; load)");
  p = amf_key(p, "tcUrl"), p = amf_text(p, tc_url);
  *p++ = 0, *p++ = 0, *p++ = 9;
  return rtmp_message(o, 3, 0, RTMP_COMMAND, 0, b, (int)(p - b), chunk);
}

// name, transaction, null, then up to two strings
static inline uint8_t *rtmp_command(uint8_t *o, const char *name, double transaction, const char *a1, const char *a2, uint32_t stream, int chunk) {
  uint8_t b[3 * URL_MAX], *p = b;
  p = amf_text(p, name), p = amf_number(p, transaction);
  *p++ = 5;
  if (a1) p = amf_text(p, a1);
  if (a2) p = amf_text(p, a2);
  return rtmp_message(o, stream ? 8 : 3, 0, RTMP_COMMAND, stream, b, (int)(p - b), chunk);
}

// C0 and C1 of the simple handshake
static inline void rtmp_c0c1(uint8_t *o, int seed) {
  memset(o, 0, HANDSHAKE_C0C1);
  o[0] = 3;
  for (int i = 9; i < HANDSHAKE_C0C1; i++) o[i] = (uint8_t)(i * 7 + seed);
}

// "/app/instance/name?query" -> app, name with its query, tcUrl
static inline void rtmp_names(const Url *u, const char *path, char *app, char *name, char *tc_url) {
  size_t plain = strcspn(path, "?"), cut = 0;
  for (size_t i = 0; i < plain; i++)
    if (path[i] == '/') cut = i;
  snprintf(app, URL_MAX, "%.*s", (int)(cut ? cut - 1 : 0), path + 1);
  snprintf(name, URL_MAX, "%s", path + cut + 1);
  snprintf(tc_url, URL_MAX + 128, "rtmp://%s:%d/%s", u->host, u->port, app);
}

// ---- reading: the head of every message, the rest skipped or kept ----

enum { RTMP_SLOTS = 16, RTMP_HEAD = 176 };

typedef struct {
  int csid, type;
  uint32_t len, got, time;
  int extended;
  uint8_t head[RTMP_HEAD], *body; // body: the whole message, where the reader keeps it
  uint32_t room;
} RtmpSlot;

typedef struct {
  enum { BASIC, BASIC_MORE, HEADER, EXTENDED, PAYLOAD } stage;
  uint32_t chunk, run; // the peer's chunk size; payload bytes left in this chunk
  int fmt, csid, need, got, slots, whole; // whole: keep bodies, and times (of messages with a full header only)
  uint8_t raw[11];
  RtmpSlot *on, slot[RTMP_SLOTS];
} RtmpReader;

static inline void rtmp_reader_init(RtmpReader *r) { memset(r, 0, sizeof *r), r->chunk = 128; }

static inline RtmpSlot *rtmp_slot(RtmpReader *r, int csid) {
  for (int i = 0; i < r->slots; i++)
    if (r->slot[i].csid == csid) return &r->slot[i];
  if (r->slots == RTMP_SLOTS) return NULL;
  r->slot[r->slots].csid = csid;
  return &r->slot[r->slots++];
}

static inline void rtmp_begin_payload(RtmpReader *r) {
  uint32_t left = r->on->len - r->on->got;
  r->run = left < r->chunk ? left : r->chunk;
  r->stage = PAYLOAD;
}

// Feeds bytes until one message stands in *out (its head is valid until the next call) or the bytes are used up. A
// video message is given out twice: once when its first two bytes are there (got < len), once when it is whole.
// Returns the bytes used, -1 for what is no RTMP.
static inline int rtmp_read(RtmpReader *r, const uint8_t *d, int n, RtmpSlot **out) {
  int i = 0;
  *out = NULL;
  while (i < n || (r->stage == PAYLOAD && r->run == 0)) {
    switch (r->stage) {
    case BASIC:
      r->fmt = d[i] >> 6, r->csid = d[i] & 63, i++;
      r->need = r->csid == 0 ? 1 : r->csid == 1 ? 2 : 0, r->got = 0;
      r->stage = BASIC_MORE;
      if (r->need) continue;
      goto basic_done;
    case BASIC_MORE:
      r->raw[r->got++] = d[i++];
      if (r->got < r->need) continue;
      r->csid = 64 + r->raw[0] + (r->need == 2 ? r->raw[1] << 8 : 0);
    basic_done:
      if (!(r->on = rtmp_slot(r, r->csid))) return -1;
      r->need = r->fmt == 0 ? 11 : r->fmt == 1 ? 7 : r->fmt == 2 ? 3 : 0, r->got = 0;
      r->stage = HEADER;
      if (r->need) continue;
      r->stage = r->on->extended ? EXTENDED : PAYLOAD, r->need = 4;
      if (r->stage == PAYLOAD) rtmp_begin_payload(r);
      continue;
    case HEADER:
      r->raw[r->got++] = d[i++];
      if (r->got < r->need) continue;
      r->on->extended = r->raw[0] == 0xff && r->raw[1] == 0xff && r->raw[2] == 0xff;
      if (r->fmt == 0) r->on->time = (uint32_t)(r->raw[0] << 16 | r->raw[1] << 8 | r->raw[2]);
      if (r->fmt < 2) r->on->len = (uint32_t)(r->raw[3] << 16 | r->raw[4] << 8 | r->raw[5]), r->on->type = r->raw[6];
      r->need = 4, r->got = 0;
      r->stage = r->on->extended ? EXTENDED : PAYLOAD;
      if (r->stage == PAYLOAD) rtmp_begin_payload(r);
      continue;
    case EXTENDED:
      r->on->time = r->on->time << 8 | d[i++];
      if (++r->got < r->need) continue;
      rtmp_begin_payload(r);
      continue;
    case PAYLOAD: {
      RtmpSlot *s = r->on;
      uint32_t had = s->got;
      uint32_t k = r->run < (uint32_t)(n - i) ? r->run : (uint32_t)(n - i);
      if (s->got < RTMP_HEAD) memcpy(s->head + s->got, d + i, k < RTMP_HEAD - s->got ? k : RTMP_HEAD - s->got);
      if (r->whole) {
        if (s->got + k > s->room) s->body = (uint8_t *)must(realloc(s->body, s->room = (s->got + k) * 2));
        memcpy(s->body + s->got, d + i, k);
      }
      i += (int)k, s->got += k, r->run -= k;
      if (s->got == s->len) {
        s->got = 0, r->stage = BASIC;
        if (s->type == RTMP_SET_CHUNK && s->len >= 4) {
          r->chunk = ((uint32_t)s->head[0] << 24 | (uint32_t)s->head[1] << 16 | (uint32_t)s->head[2] << 8 | s->head[3]) & 0x7fffffff;
          if (!r->chunk) return -1;
        }
        *out = s;
        return i;
      }
      if (r->run == 0) r->stage = BASIC;
      if (s->type == RTMP_VIDEO && had < 2 && s->got >= 2) {
        *out = s;
        return i;
      }
      continue;
    }
    }
  }
  return i;
}

// A command's name is `name` (and its transaction, where that is not negative)
static inline int rtmp_is(const RtmpSlot *s, const char *name, double transaction) {
  if (s->type != RTMP_COMMAND) return 0;
  uint8_t want[64], *e = amf_text(want, name);
  if (transaction >= 0) e = amf_number(e, transaction);
  return s->len >= (uint32_t)(e - want) && !memcmp(s->head, want, (size_t)(e - want));
}
// The head of the message holds this text (an onStatus code)
static inline int rtmp_holds(const RtmpSlot *s, const char *text) { return memmem(s->head, s->len < RTMP_HEAD ? s->len : RTMP_HEAD, text, strlen(text)) != NULL; }

// The message stream id in the _result of createStream: name (10), transaction (9), null (1), number
static inline uint32_t rtmp_created(const RtmpSlot *s) {
  if (s->len < 29 || s->head[19] != 5 || s->head[20] != 0) return 1;
  uint64_t v = 0;
  for (int i = 0; i < 8; i++) v = v << 8 | s->head[21 + i];
  double d;
  memcpy(&d, &v, 8);
  return d > 0 && d < 1e9 ? (uint32_t)d : 1;
}

// A video tag or message body starts a key frame's pictures (not a sequence header): legacy FLV and Enhanced RTMP
static inline int is_key_picture(uint8_t b0, uint8_t b1) {
  if (((b0 >> 4) & 7) != 1) return 0;
  if (b0 & 0x80) return (b0 & 15) == 1 || (b0 & 15) == 3; // CodedFrames, CodedFramesX
  return b1 == 1;
}
