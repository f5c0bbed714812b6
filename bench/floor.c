// floor: what C and the kernel cost for HTTP-FLV. It takes RTMP pushes and writes them to HTTP viewers, with as little
// work as one thread can do that keeps the gateway's bound of batching: one send() for each viewer and batch.
//
//   floor -r PORT             RTMP, for pushes of rtmppush only
//         -p PORT             HTTP: GET /live/NAME.flv
//         -b MILLISECONDS     longest wait of a unit for its batch (50)
//
// A batch begins with each key frame, and a new viewer gets the headers and the pictures since the last key frame, as at
// the gateway. There are no keys, limits, formats or statistics. What a slow viewer cannot take waits, up to 16 MB; a
// viewer with more is closed. Loopback only.
#include "rtmp.h"

enum { STREAMS = 1024, IN_ROOM = 1 << 16, REQUEST_ROOM = 4096, WAITING_MAX = 16 << 20, GOP_MAX = 32 << 20 };

typedef struct {
  uint8_t *data;
  size_t len, room;
} Bytes;

typedef struct Connection Connection;

typedef struct {
  char name[64];
  Bytes head, gop, pending; // FLV header and sequence headers; tags since the last key frame; tags of the next batch
  int64_t due;              // time of the next batch; 0: nothing waits
  Connection **viewer;
  int viewers, room;
} Stream;

struct Connection {
  enum { LISTEN_RTMP, LISTEN_HTTP, SHAKING, COMMANDS, REQUEST, VIEWER, GONE } state;
  int fd, skip, in, at; // skip: bytes of C2 to come; at: index in the stream's viewers
  uint8_t *read;        // the handshake or the HTTP request
  RtmpReader *rtmp;
  Bytes waiting;
  Stream *stream;
};

static Stream stream[STREAMS];
static int streams, ep, batch_ms = 50;
static volatile sig_atomic_t stopping;

static void on_signal(int s) { (void)s, stopping = 1; }

static void append(Bytes *b, const void *d, size_t n) {
  if (b->len + n > b->room) b->data = must(realloc(b->data, b->room = (b->len + n) * 2));
  memcpy(b->data + b->len, d, n);
  b->len += n;
}

static Stream *find(const char *name, size_t n) {
  if (n >= sizeof stream->name) return NULL;
  for (int i = 0; i < streams; i++)
    if (strlen(stream[i].name) == n && !memcmp(stream[i].name, name, n)) return &stream[i];
  if (streams == STREAMS) return NULL;
  Stream *s = &stream[streams++];
  memcpy(s->name, name, n);
  append(&s->head, "FLV\1\5\0\0\0\11\0\0\0\0", 13);
  return s;
}

static void leave(Connection *c) {
  if (c->state == GONE) return;
  if (c->state == VIEWER) {
    Stream *s = c->stream;
    s->viewer[c->at] = s->viewer[--s->viewers];
    s->viewer[c->at]->at = c->at;
  }
  close(c->fd);
  for (int i = 0; c->rtmp && i < c->rtmp->slots; i++) free(c->rtmp->slot[i].body);
  free(c->read), free(c->rtmp), free(c->waiting.data);
  c->read = NULL, c->rtmp = NULL, c->waiting = (Bytes){0};
  c->state = GONE; // the struct stays, because events of this turn may name it
}

// ---- viewers ----

static void give(Connection *c, const uint8_t *d, size_t n) {
  if (!c->waiting.len) {
    ssize_t k = send(c->fd, d, n, MSG_NOSIGNAL);
    if (k == (ssize_t)n) return;
    if (k < 0 && errno != EAGAIN) {
      shutdown(c->fd, SHUT_RDWR); // its event closes it: the list of viewers is being read now
      return;
    }
    if (k > 0) d += k, n -= (size_t)k;
    watch(ep, EPOLL_CTL_MOD, c->fd, EPOLLIN | EPOLLOUT, c);
  }
  if (c->waiting.len + n > WAITING_MAX) shutdown(c->fd, SHUT_RDWR);
  else append(&c->waiting, d, n);
}

static void drain(Connection *c) {
  ssize_t k = send(c->fd, c->waiting.data, c->waiting.len, MSG_NOSIGNAL);
  if (k <= 0) return;
  memmove(c->waiting.data, c->waiting.data + k, c->waiting.len -= (size_t)k);
  if (!c->waiting.len) watch(ep, EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
}

static void add_chunk(Bytes *out, const Bytes *a, const Bytes *b) { // HTTP/1.1 chunk of both
  char size[20];
  append(out, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", a->len + (b ? b->len : 0)));
  append(out, a->data, a->len);
  if (b) append(out, b->data, b->len);
  append(out, "\r\n", 2);
}

static void flush(Stream *s) {
  static Bytes framed;
  s->due = 0;
  if (!s->pending.len) return;
  framed.len = 0;
  add_chunk(&framed, &s->pending, NULL);
  for (int i = 0; i < s->viewers; i++) give(s->viewer[i], framed.data, framed.len);
  if (s->gop.len + s->pending.len < GOP_MAX) append(&s->gop, s->pending.data, s->pending.len);
  s->pending.len = 0;
}

static void answer(Connection *c) {
  static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
  char *path = (char *)c->read, *end = strstr(path, ".flv");
  char *name = end ? memrchr(path, '/', (size_t)(end - path)) : NULL;
  Stream *s = name ? find(name + 1, (size_t)(end - name - 1)) : NULL;
  if (!s || s->head.len <= 13) {
    static const char no[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    if (send(c->fd, no, sizeof no - 1, MSG_NOSIGNAL) >= 0) leave(c);
    return;
  }
  if (s->viewers == s->room) s->viewer = must(realloc(s->viewer, (size_t)(s->room = s->room * 2 + 64) * sizeof *s->viewer));
  c->state = VIEWER, c->stream = s, c->at = s->viewers;
  s->viewer[s->viewers++] = c;
  Bytes first = {0};
  append(&first, ok, sizeof ok - 1);
  add_chunk(&first, &s->head, &s->gop);
  give(c, first.data, first.len);
  free(first.data);
}

// ---- publishers ----

static void take(Stream *s, const RtmpSlot *m, const uint8_t *d, int64_t now) {
  uint8_t tag[15] = {(uint8_t)m->type, (uint8_t)(m->len >> 16), (uint8_t)(m->len >> 8), (uint8_t)m->len};
  uint32_t t = m->time, whole = m->len + 11;
  tag[4] = (uint8_t)(t >> 16), tag[5] = (uint8_t)(t >> 8), tag[6] = (uint8_t)t, tag[7] = (uint8_t)(t >> 24);
  uint8_t back[4] = {(uint8_t)(whole >> 24), (uint8_t)(whole >> 16), (uint8_t)(whole >> 8), (uint8_t)whole};
  int header = m->type == RTMP_DATA || (m->len > 1 && d[1] == 0); // onMetaData; a sequence header of H.264 or AAC
  Bytes *to = header ? &s->head : &s->pending;
  if (!header && m->type == RTMP_VIDEO && is_key_picture(d[0], d[1])) {
    flush(s);
    s->gop.len = 0;
  }
  if (m->type == RTMP_DATA) { // without the text "@setDataFrame"
    d += 16, whole -= 16;
    tag[1] = 0, tag[2] = (uint8_t)((m->len - 16) >> 8), tag[3] = (uint8_t)(m->len - 16);
    back[2] = (uint8_t)(whole >> 8), back[3] = (uint8_t)whole;
  }
  append(to, tag, 11), append(to, d, whole - 11), append(to, back, 4);
  if (header || s->due) return;
  s->due = now + batch_ms * 1000;
}

static void on_message(Connection *c, const RtmpSlot *m, int64_t now) {
  if (m->type == RTMP_VIDEO || m->type == RTMP_AUDIO || (m->type == RTMP_DATA && m->len > 16 && m->len < 1 << 16)) {
    if (c->stream && m->len > 1) take(c->stream, m, m->body, now);
    return;
  }
  uint8_t o[512], *e = o;
  if (rtmp_is(m, "connect", 1)) e = rtmp_command(e, "_result", 1, NULL, NULL, 0, 128);
  else if (rtmp_is(m, "createStream", 4)) e = rtmp_command(e, "_result", 4, NULL, NULL, 0, 128); // stream 1 at rtmppush
  else if (rtmp_is(m, "publish", 5) && m->len > 23 && m->len < RTMP_HEAD) {
    const char *name = (const char *)m->head + 23;
    int n = m->head[22];
    c->stream = 23 + n <= (int)m->len ? find(name, (size_t)n) : NULL;
    e = rtmp_command(e, "onStatus", 0, c->stream ? "NetStream.Publish.Start" : "error", NULL, 0, 128);
  }
  if (e > o && send(c->fd, o, (size_t)(e - o), MSG_NOSIGNAL) < 0) leave(c);
}

static void on_media(Connection *c, const uint8_t *d, int n, int64_t now) {
  while (c->state == COMMANDS) {
    RtmpSlot *m;
    int used = rtmp_read(c->rtmp, d, n, &m);
    if (used < 0) leave(c);
    if (used < 0 || !m) return;
    d += used, n -= used;
    if (!m->got) on_message(c, m, now); // else only the first bytes of a picture
  }
}

static void on_shake(Connection *c) {
  if (c->in < HANDSHAKE_C0C1) return;
  static uint8_t reply[HANDSHAKE_S0S1S2];
  rtmp_c0c1(reply, 0);
  memcpy(reply + HANDSHAKE_C0C1, c->read + 1, HANDSHAKE_C0C1 - 1);
  if (send(c->fd, reply, sizeof reply, MSG_NOSIGNAL) != (ssize_t)sizeof reply) {
    leave(c);
    return;
  }
  c->state = COMMANDS, c->skip = HANDSHAKE_C0C1 - 1;
  c->rtmp = must(malloc(sizeof *c->rtmp));
  rtmp_reader_init(c->rtmp);
  c->rtmp->whole = 1;
}

// ---- connections ----

static void accept_all(const Connection *l) {
  for (int fd; (fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    Connection *c = must(calloc(1, sizeof *c));
    c->fd = fd, c->state = l->state == LISTEN_RTMP ? SHAKING : REQUEST;
    c->read = must(calloc(1, REQUEST_ROOM));
    watch(ep, EPOLL_CTL_ADD, fd, EPOLLIN, c);
  }
}

static void on_readable(Connection *c, int64_t now) {
  static uint8_t b[IN_ROOM];
  int early = c->state == SHAKING || c->state == REQUEST;
  int wanted = c->state == SHAKING ? HANDSHAKE_C0C1 - c->in : REQUEST_ROOM - 1 - c->in;
  ssize_t n = early ? recv(c->fd, c->read + c->in, (size_t)wanted, 0) : recv(c->fd, b, sizeof b, 0);
  if (n <= 0) {
    if (n == 0 || errno != EAGAIN) leave(c);
    return;
  }
  if (early) c->in += (int)n;
  if (c->state == SHAKING) on_shake(c);
  else if (c->state == REQUEST && strstr((char *)c->read, "\r\n\r\n")) answer(c);
  else if (c->state == COMMANDS) {
    int skip = c->skip < n ? c->skip : (int)n;
    c->skip -= skip;
    on_media(c, b + skip, (int)n - skip, now);
  }
}

static void listen_on(Connection *l, int port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int one = 1;
  l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(l->fd, (struct sockaddr *)&a, sizeof a) || listen(l->fd, 1024)) die("cannot listen on this port");
  watch(ep, EPOLL_CTL_ADD, l->fd, EPOLLIN, l);
}

int main(int argc, char **argv) {
  int rtmp = 0, http = 0;
  for (int o; (o = getopt(argc, argv, "r:p:b:")) != -1;) switch (o) {
    case 'r': rtmp = atoi(optarg); break;
    case 'p': http = atoi(optarg); break;
    case 'b': batch_ms = atoi(optarg); break;
    default: return 2;
    }
  if (rtmp < 1 || http < 1 || batch_ms < 0) die("-r PORT and -p PORT are needed");
  signal(SIGPIPE, SIG_IGN), signal(SIGTERM, on_signal), signal(SIGINT, on_signal);
  raise_file_limit(1024);
  ep = epoll_create1(EPOLL_CLOEXEC);
  static Connection listeners[] = {{.state = LISTEN_RTMP}, {.state = LISTEN_HTTP}};
  listen_on(&listeners[0], rtmp), listen_on(&listeners[1], http);
  struct epoll_event events[512];
  while (!stopping) {
    int64_t now = now_us(), next = now + 1000000;
    for (int i = 0; i < streams; i++) {
      if (stream[i].due && stream[i].due <= now) flush(&stream[i]);
      if (stream[i].due && stream[i].due < next) next = stream[i].due;
    }
    int wait = (int)((next - now_us() + 999) / 1000);
    int n = epoll_wait(ep, events, 512, wait > 0 ? wait : 0);
    now = now_us();
    for (int i = 0; i < n; i++) {
      Connection *c = events[i].data.ptr;
      if (c->state <= LISTEN_HTTP) accept_all(c);
      else if (c->state != GONE) {
        if (events[i].events & EPOLLOUT) drain(c);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c, now);
      }
    }
  }
  return 0;
}
