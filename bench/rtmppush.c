// rtmppush: replays one FLV file in real time over M RTMP publishing connections, looping, in one thread with epoll.
//
//   rtmppush -f FILE.flv
//            -u URL | -l FILE   where to (a list: one URL a line, since every channel has its own signed key)
//            -n M               publishers (1)
//            -r RATE            new connections a second (20)
//            -c BYTES           chunk size (4096)
//            -t SECONDS         stop after so long (0: until SIGTERM)
//            -k SECONDS         soak: cut and reconnect every publisher about so often; who is cut off or refused tries
//                               again a second later
//            -S                 no latency stamps
//
// Every H.264 frame gets an SEI with its sending time (see STAMP), which viewload and the LL-HLS probe read back.
// stdout: "PUBLISHING <live>" when all have been answered; at the end one JSON line. Loopback only.
#include "rtmp.h"

typedef enum { IDLE, CONNECTING, SHAKING, CONNECTED, CREATING, ASKING, LIVE, GONE } State;

typedef struct {
  uint32_t ts;
  int type, size, stamped;
  const uint8_t *body;
} Tag;

typedef struct {
  int fd, index, in, next;
  State state;
  int64_t live_since, loop_base, cut_at, late_max;
  uint32_t stream;
  RtmpReader reader;
  uint8_t *shake;
  uint8_t *queue; // what the socket did not take
  int queue_len, queue_at, queue_room;
} Publisher;

enum { OUT_ROOM = 4 << 20, FLUSH_AT = 1 << 20, TAG_MAX = 2 << 20 };

static Tag *tags;
static int tag_count, loop_from;
static uint32_t loop_span;
static int count = 1, rate = 20, chunk = 4096, lasting = 0, stamps = 1, cut_every = 0;
static Url url;
static Paths paths;
static struct sockaddr_in address;
static int ep, live, answered;
static long long sent, cuts, lost, refused, connect_errors;
static volatile sig_atomic_t stopping;

static void on_signal(int s) { (void)s, stopping = 1; }

// ---- the file ----

static uint32_t be24(const uint8_t *p) { return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2]; }

static int is_end_of_sequence(int type, const uint8_t *d) {
  if (type != RTMP_VIDEO) return 0;
  return d[0] & 0x80 ? (d[0] & 15) == 2 : (d[0] & 15) == 7 && d[1] == 2;
}

static void load_file(const char *name) {
  FILE *f = fopen(name, "rb");
  if (!f) {
    perror(name);
    exit(2);
  }
  fseek(f, 0, SEEK_END);
  long n = ftell(f);
  rewind(f);
  uint8_t *b = must(malloc((size_t)n + 1));
  if (fread(b, 1, (size_t)n, f) != (size_t)n || n < 13 || memcmp(b, "FLV", 3)) die("not an FLV file");
  fclose(f);
  tags = must(malloc(sizeof *tags * (size_t)(n / 15 + 1)));
  loop_from = -1;
  for (long p = 13; p + 11 <= n;) {
    int size = (int)be24(b + p + 1), type = b[p] & 0x1f;
    uint32_t ts = be24(b + p + 4) | (uint32_t)b[p + 7] << 24;
    const uint8_t *d = b + p + 11;
    p += 11 + size + 4;
    if (p > n) break;
    if (size > TAG_MAX) die("a tag of the file is larger than 2 MiB");
    if (size < 2 || is_end_of_sequence(type, d)) continue;
    int avc = type == RTMP_VIDEO && !(d[0] & 0x80) && (d[0] & 15) == 7 && d[1] == 1 && size > 5;
    if (loop_from < 0 && type == RTMP_VIDEO && is_key_picture(d[0], d[1])) loop_from = tag_count;
    tags[tag_count++] = (Tag){.ts = ts, .type = type, .size = size, .stamped = avc && stamps, .body = d};
  }
  if (loop_from < 0) die("no key frame in the file");
  loop_span = tags[tag_count - 1].ts + 33 - tags[loop_from].ts;
}

// ---- sending ----

static void leave(Publisher *p, long long *counter) {
  if (p->state == GONE || p->state == IDLE) return;
  if (p->state == LIVE) live--;
  else if (p->state != GONE && !cut_every) answered++;
  close(p->fd);
  p->state = GONE;
  p->cut_at = now_us() + 1000000;
  p->queue_len = p->queue_at = 0;
  ++*counter;
}

static void flush(Publisher *p) {
  while (p->queue_len) {
    ssize_t k = send(p->fd, p->queue + p->queue_at, (size_t)p->queue_len, MSG_NOSIGNAL);
    if (k < 0) {
      if (errno == EAGAIN) watch(ep, EPOLL_CTL_MOD, p->fd, EPOLLIN | EPOLLOUT, p);
      else leave(p, &lost);
      return;
    }
    p->queue_at += (int)k, p->queue_len -= (int)k, sent += k;
  }
  p->queue_at = 0;
  watch(ep, EPOLL_CTL_MOD, p->fd, EPOLLIN, p);
}

static void say(Publisher *p, const uint8_t *b, long n) {
  if (p->state == GONE) return;
  if (!p->queue_len) {
    ssize_t k = send(p->fd, b, (size_t)n, MSG_NOSIGNAL);
    if (k < 0) {
      if (errno != EAGAIN) {
        leave(p, &lost);
        return;
      }
      k = 0;
    }
    sent += k, b += k, n -= k;
    if (!n) return;
  }
  if (p->queue_len + n > 64 << 20) { // a server that takes nothing for minutes
    leave(p, &lost);
    return;
  }
  if (p->queue_at + p->queue_len + n > p->queue_room) {
    memmove(p->queue, p->queue + p->queue_at, (size_t)p->queue_len);
    p->queue_at = 0;
    if (p->queue_len + n > p->queue_room) p->queue = must(realloc(p->queue, (size_t)(p->queue_room = (p->queue_len + (int)n) * 2)));
  }
  memcpy(p->queue + p->queue_at + p->queue_len, b, (size_t)n);
  p->queue_len += (int)n;
  flush(p);
}

static void push_due(Publisher *p) {
  static uint8_t out[OUT_ROOM + 2 * TAG_MAX], stamped[TAG_MAX + 128];
  uint8_t *o = out;
  int64_t now = now_us();
  while (p->state == LIVE) {
    const Tag *t = &tags[p->next];
    uint32_t ts = (uint32_t)(p->loop_base + t->ts);
    int64_t due = p->live_since + (p->loop_base + t->ts) * 1000;
    if (due > now) break;
    if (now - due > p->late_max) p->late_max = now - due;
    const uint8_t *b = t->body;
    int n = t->size;
    if (t->type == RTMP_DATA && b[0] == 2 && b[1] == 0 && b[2] == 10) { // onMetaData
      uint8_t *e = amf_text(stamped, "@setDataFrame");
      memcpy(e, b, (size_t)n);
      n += (int)(e - stamped), b = stamped;
    } else if (t->stamped) {
      char hex[STAMP_HEX + 1];
      snprintf(hex, sizeof hex, "%016llx", (unsigned long long)now_us());
      memcpy(stamped, b, 5);
      uint8_t *q = stamped + 5;
      *q++ = 0, *q++ = 0, *q++ = 0, *q++ = 3 + STAMP_ALL + 1; // NAL unit length
      *q++ = 6, *q++ = 5, *q++ = STAMP_ALL;                   // SEI, user_data_unregistered, size
      memcpy(q, STAMP, STAMP_LEN), memcpy(q + STAMP_LEN, hex, STAMP_HEX);
      q += STAMP_ALL;
      *q++ = 0x80;
      memcpy(q, b + 5, (size_t)n - 5);
      n += (int)(q - stamped) - 5, b = stamped;
    }
    o = rtmp_message(o, t->type == RTMP_AUDIO ? 4 : t->type == RTMP_VIDEO ? 6 : 5, ts, t->type, p->stream, b, n, chunk);
    if (o - out > FLUSH_AT) say(p, out, o - out), o = out;
    if (++p->next == tag_count) p->next = loop_from, p->loop_base += loop_span;
  }
  if (o > out) say(p, out, o - out);
}

// ---- connecting ----

static void connect_publisher(Publisher *p) {
  p->in = 0, p->next = 0, p->loop_base = 0, p->stream = 1;
  rtmp_reader_init(&p->reader);
  if (!p->shake) p->shake = must(malloc(HANDSHAKE_S0S1S2));
  p->fd = dial(&address, 0);
  p->state = CONNECTING;
  if (p->fd < 0) {
    p->state = GONE, p->cut_at = now_us() + 1000000, connect_errors++;
    if (!cut_every) answered++;
    return;
  }
  watch(ep, EPOLL_CTL_ADD, p->fd, EPOLLIN | EPOLLOUT, p);
}

static void on_reply(Publisher *p, const RtmpSlot *m) {
  static uint8_t o[8 * URL_MAX];
  char app[URL_MAX], name[URL_MAX], tc_url[URL_MAX + 128];
  rtmp_names(&url, path_of(&paths, p->index), app, name, tc_url);
  uint8_t *e = o;
  if (p->state == CONNECTED && rtmp_is(m, "_result", 1)) {
    e = rtmp_command(e, "releaseStream", 2, name, NULL, 0, chunk);
    e = rtmp_command(e, "FCPublish", 3, name, NULL, 0, chunk);
    e = rtmp_command(e, "createStream", 4, NULL, NULL, 0, chunk);
    p->state = CREATING;
  } else if (p->state == CREATING && rtmp_is(m, "_result", 4)) { // servers may answer 2 and 3 too
    p->stream = rtmp_created(m);
    e = rtmp_command(e, "publish", 5, name, "live", p->stream, chunk);
    p->state = ASKING;
  } else if (p->state == ASKING && rtmp_is(m, "onStatus", -1) && rtmp_holds(m, "Publish.Start")) {
    p->state = LIVE, live++, answered += !cut_every;
    p->live_since = now_us();
    p->cut_at = cut_every ? p->live_since + (int64_t)cut_every * 500000 + rand() % cut_every * 1000000LL : INT64_MAX;
  } else if ((p->state == CONNECTED && rtmp_is(m, "_error", -1)) || (rtmp_is(m, "onStatus", -1) && rtmp_holds(m, "error"))) {
    leave(p, &refused);
  }
  if (e > o) say(p, o, e - o);
}

static void on_readable(Publisher *p) {
  static uint8_t b[65536];
  if (p->state == SHAKING) {
    ssize_t n = recv(p->fd, p->shake + p->in, (size_t)(HANDSHAKE_S0S1S2 - p->in), 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
      leave(p, &lost);
      return;
    }
    if (n < 0 || (p->in += (int)n) < HANDSHAKE_S0S1S2) return;
    char app[URL_MAX], name[URL_MAX], tc_url[URL_MAX + 128];
    rtmp_names(&url, path_of(&paths, p->index), app, name, tc_url);
    memcpy(b, p->shake + 1, 1536); // C2 echoes S1
    uint8_t size[4] = {(uint8_t)(chunk >> 24), (uint8_t)(chunk >> 16), (uint8_t)(chunk >> 8), (uint8_t)chunk};
    uint8_t *e = rtmp_message(b + 1536, 2, 0, RTMP_SET_CHUNK, 0, size, 4, 128);
    e = rtmp_connect(e, app, tc_url, chunk);
    p->state = CONNECTED;
    say(p, b, e - b);
    return;
  }
  ssize_t n = recv(p->fd, b, sizeof b, 0);
  if (n == 0 || (n < 0 && errno != EAGAIN)) {
    leave(p, &lost);
    return;
  }
  const uint8_t *d = b;
  while (n >= 0 && p->state != GONE) {
    RtmpSlot *m;
    int used = rtmp_read(&p->reader, d, (int)n, &m);
    if (used < 0) leave(p, &lost);
    if (used < 0 || !m) return;
    d += used, n -= used;
    on_reply(p, m);
  }
}

static void on_event(Publisher *p, uint32_t events) {
  if (p->state == GONE || p->state == IDLE) return;
  if (p->state == CONNECTING) {
    if (socket_error(p->fd)) {
      leave(p, &connect_errors);
      return;
    }
    uint8_t b[HANDSHAKE_C0C1];
    rtmp_c0c1(b, p->index);
    watch(ep, EPOLL_CTL_MOD, p->fd, EPOLLIN, p);
    p->state = SHAKING;
    say(p, b, sizeof b);
    return;
  }
  if (events & EPOLLOUT) flush(p);
  if (p->state != GONE && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(p);
}

static void reconnect(Publisher *publishers, int opened) {
  int64_t now = now_us();
  for (int i = 0; i < opened; i++) {
    Publisher *p = &publishers[i];
    if (now < p->cut_at) continue;
    if (p->state == GONE) connect_publisher(p);
    else if (p->state == LIVE) leave(p, &cuts);
  }
}

int main(int argc, char **argv) {
  const char *one = NULL, *list = NULL, *file = NULL;
  for (int o; (o = getopt(argc, argv, "f:u:l:n:r:c:t:k:S")) != -1;) switch (o) {
    case 'f': file = optarg; break;
    case 'u': one = optarg; break;
    case 'l': list = optarg; break;
    case 'n': count = atoi(optarg); break;
    case 'r': rate = atoi(optarg); break;
    case 'c': chunk = atoi(optarg); break;
    case 't': lasting = atoi(optarg); break;
    case 'k': cut_every = atoi(optarg); break;
    case 'S': stamps = 0; break;
    default: return 2;
    }
  if (!file) die("-f FILE is needed");
  if (count < 1 || rate < 1 || chunk < 128) die("-n and -r must be at least 1, -c at least 128");
  signal(SIGPIPE, SIG_IGN), signal(SIGTERM, on_signal), signal(SIGINT, on_signal);
  setvbuf(stdout, NULL, _IOLBF, 0);
  url = load_urls(&paths, one, list, 1935);
  if (strcmp(url.scheme, "rtmp")) die("rtmp:// only");
  address = loopback(&url);
  load_file(file);
  raise_file_limit(count);
  Publisher *publishers = must(calloc((size_t)count, sizeof *publishers));
  ep = epoll_create1(EPOLL_CLOEXEC);

  int opened = 0, said = 0;
  int64_t begin = now_us();
  struct epoll_event events[256];
  while (!stopping) {
    int64_t now = now_us();
    if (lasting && now - begin > lasting * 1000000LL) break;
    while (opened < count && (now - begin) * rate / 1000000 >= opened) {
      publishers[opened].index = opened;
      publishers[opened].cut_at = INT64_MAX;
      connect_publisher(&publishers[opened++]);
    }
    int n = epoll_wait(ep, events, 256, 3);
    for (int i = 0; i < n; i++) on_event(events[i].data.ptr, events[i].events);
    for (int i = 0; i < opened; i++)
      if (publishers[i].state == LIVE) push_due(&publishers[i]);
    if (cut_every) reconnect(publishers, opened);
    if (!said && opened == count && (cut_every ? live > 0 : answered >= count)) said = 1, printf("PUBLISHING %d\n", live);
    if (!cut_every && said && !live) break;
  }
  int64_t late = 0;
  long long unsent = 0;
  for (int i = 0; i < opened; i++) {
    unsent += publishers[i].queue_len;
    if (publishers[i].late_max > late) late = publishers[i].late_max;
  }
  printf("{\"publishers\":%d,\"live\":%d,\"cuts\":%lld,\"lost\":%lld,\"refused\":%lld,\"connect_errors\":%lld,", count, live, cuts, lost, refused, connect_errors);
  printf("\"bytes\":%lld,\"unsent\":%lld,\"late_max_ms\":%.1f,\"client_cpu_s\":%.2f}\n", sent, unsent, (double)late / 1e3, own_cpu());
  return live ? 0 : 1;
}
