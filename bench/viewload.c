// viewload: N live viewers over HTTP-FLV (http://), WebSocket-FLV (ws://) or RTMP (rtmp://) in one thread: epoll, and
// bytes thrown away in the kernel by recv(MSG_TRUNC), so that the client costs as little as it can.
//
//   viewload -u URL | -l FILE   where to (a list: one URL a line, given to the viewers in turn); loopback only
//            -n N               viewers (100)
//            -r RATE            new connections a second (100)
//            -w SECONDS         pause between the last connection and the measured window (3)
//            -t SECONDS         length of the measured window (20)
//            -p P               viewers that read the latency stamps, spread evenly over all (10)
//            -j J               report join times of the last J viewers only (all)
//            -z Z               viewers that stop reading when the window opens, receive buffer 64 kB (0)
//            -x SECONDS         soak: mean stay of a viewer; who leaves, or is closed, comes again a second later
//
// stdout: RAMPED, MEASURE_START and MEASURE_END as they happen, so that a caller samples the server in exactly that
// window; then one JSON line. Joining is timed from connect() to the first byte of the body and to the first byte of
// a key frame's picture.
#include "keyframe.h"

typedef enum { IDLE, CONNECTING, SHAKING, CONNECTED, CREATED, BODY, GONE } State;

typedef struct {
  int fd, index, probe, stalls, stopped, in;
  State state;
  int64_t asked, leaves, bytes, bytes_at_start, reads, reads_at_start, acked;
  int first_byte_seen, key_seen;
  uint32_t stream;
  uint8_t *shake; // reply bytes until the body begins
  KeyFinder flv;
  RtmpReader *rtmp; // until the first key frame
  uint8_t tail[STAMP_ALL];
  int tail_len;
} Viewer;

enum { SHAKE_ROOM = 8192, STALLED_BUFFER = 65536, READ_ROOM = 1 << 20 };

static int count = 100, rate = 100, warm = 3, window = 20, probes = 10, joiners = 0, stalling = 0, stay = 0;
static Url url;
static Paths paths;
static struct sockaddr_in address;
static int ep, measuring, is_rtmp, is_ws;
static int connect_errors, refused, closed_early, stalled_closed, rejoined;
static char status[96];
static Samples latency, first_byte, key_frame;
static uint8_t room[READ_ROOM];
static volatile sig_atomic_t stopping;

static void on_signal(int s) { (void)s, stopping = 1; }

static void leave(Viewer *v, int *counter) {
  if (v->state == GONE || v->state == IDLE) return;
  close(v->fd);
  v->state = GONE;
  v->leaves = now_us() + 1000000;
  if (counter) ++*counter;
}

static void say(Viewer *v, const void *b, long n) { // commands are small: a full socket buffer cannot happen
  if (v->state != GONE && send(v->fd, b, (size_t)n, MSG_NOSIGNAL) != n) leave(v, &closed_early);
}

static void join(Viewer *v, int64_t now) {
  v->in = v->first_byte_seen = v->key_seen = v->stopped = v->tail_len = 0;
  v->acked = 0, v->stream = 1;
  v->asked = now;
  v->leaves = stay ? now + (int64_t)stay * 500000 + rand() % stay * 1000000LL : INT64_MAX;
  if (!v->shake) v->shake = must(malloc(SHAKE_ROOM));
  v->fd = dial(&address, v->stalls ? STALLED_BUFFER : 0);
  if (v->fd < 0) {
    connect_errors++;
    v->state = GONE, v->leaves = now + 1000000;
    return;
  }
  v->state = CONNECTING;
  watch(ep, EPOLL_CTL_ADD, v->fd, EPOLLOUT | EPOLLIN, v);
}

static void ask(Viewer *v) {
  char b[URL_MAX + 512];
  v->state = SHAKING;
  if (is_rtmp) {
    rtmp_c0c1((uint8_t *)b, v->index);
    say(v, b, HANDSHAKE_C0C1);
    return;
  }
  const char *more = is_ws ? "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" : "Accept: */*\r\n";
  say(v, b, snprintf(b, sizeof b, "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: viewload\r\n%s\r\n", path_of(&paths, v->index), url.host, url.port, more));
}

static void key_found(Viewer *v) {
  v->key_seen = 1;
  if ((stay || !measuring) && v->index >= count - joiners) add_sample(&key_frame, (double)(now_us() - v->asked) / 1e3);
  free(v->rtmp);
  v->rtmp = NULL;
}

static void scan_stamps(Viewer *v, const uint8_t *d, int n) {
  static uint8_t s[READ_ROOM + STAMP_ALL];
  memcpy(s, v->tail, (size_t)v->tail_len);
  memcpy(s + v->tail_len, d, (size_t)n);
  uint8_t *p = s, *end = s + v->tail_len + n;
  int64_t now = now_us();
  while ((p = memmem(p, (size_t)(end - p), STAMP, STAMP_LEN)) && end - p >= STAMP_ALL) {
    char hex[STAMP_HEX + 1] = {0}, *stop;
    memcpy(hex, p + STAMP_LEN, STAMP_HEX);
    int64_t sent = (int64_t)strtoull(hex, &stop, 16);
    if (!*stop && measuring) add_sample(&latency, (double)(now - sent) / 1e3);
    p += STAMP_ALL;
  }
  long keep = p ? end - p : end - s; // a stamp cut by the end of the read is looked at again with the next one
  if (keep > STAMP_ALL - 1) keep = STAMP_ALL - 1;
  memcpy(v->tail, end - keep, (size_t)keep);
  v->tail_len = (int)keep;
}

static void on_body(Viewer *v, const uint8_t *d, int n) { // d is NULL where the bytes were thrown away
  if (!v->first_byte_seen) {
    v->first_byte_seen = 1;
    if ((stay || !measuring) && v->index >= count - joiners) add_sample(&first_byte, (double)(now_us() - v->asked) / 1e3);
  }
  v->bytes += n, v->reads++;
  if (is_rtmp && v->bytes - v->acked > 1000000) {
    uint8_t b[32], sequence[4] = {(uint8_t)(v->bytes >> 24), (uint8_t)(v->bytes >> 16), (uint8_t)(v->bytes >> 8), (uint8_t)v->bytes};
    v->acked = v->bytes;
    say(v, b, rtmp_message(b, 2, 0, RTMP_ACK, 0, sequence, 4, 128) - b);
  }
  if (d && v->probe) scan_stamps(v, d, n);
  if (d && !v->key_seen && !is_rtmp && key_finder_feed(&v->flv, d, n)) key_found(v);
}

static void begin_body(Viewer *v) {
  v->state = BODY;
  free(v->shake);
  v->shake = NULL;
}

static void on_rtmp(Viewer *v, const uint8_t *d, int n) { // replies, then media until the first key frame
  while (v->rtmp) {
    RtmpSlot *m;
    int used = rtmp_read(v->rtmp, d, n, &m);
    if (used < 0) {
      leave(v, &refused);
      return;
    }
    d += used, n -= used;
    if (!m) return;
    uint8_t o[3 * URL_MAX + 64];
    char app[URL_MAX], name[URL_MAX], tc_url[URL_MAX + 128];
    rtmp_names(&url, path_of(&paths, v->index), app, name, tc_url);
    if (rtmp_is(m, "_error", -1) || (rtmp_is(m, "onStatus", -1) && rtmp_holds(m, "error"))) {
      leave(v, &refused);
      return;
    }
    if (v->state == CONNECTED && rtmp_is(m, "_result", 1)) {
      v->state = CREATED;
      say(v, o, rtmp_command(o, "createStream", 2, NULL, NULL, 0, 128) - o);
    } else if (v->state == CREATED && rtmp_is(m, "_result", 2)) {
      uint32_t s = v->stream = rtmp_created(m);
      uint8_t *e = rtmp_command(o, "play", 3, name, NULL, s, 128);
      uint8_t buffer[10] = {0, 3, (uint8_t)(s >> 24), (uint8_t)(s >> 16), (uint8_t)(s >> 8), (uint8_t)s, 0, 0, 3, 232}; // 1,000 ms
      e = rtmp_message(e, 2, 0, RTMP_USER, 0, buffer, 10, 128);
      begin_body(v);
      say(v, o, e - o);
      if (v->state == GONE) return;
    } else if (v->state == BODY && m->type == RTMP_VIDEO && m->len >= 2 && is_key_picture(m->head[0], m->head[1])) {
      key_found(v);
    }
  }
}

static void on_rtmp_shake(Viewer *v) {
  if (v->in < HANDSHAKE_S0S1S2) return;
  char app[URL_MAX], name[URL_MAX], tc_url[URL_MAX + 128];
  rtmp_names(&url, path_of(&paths, v->index), app, name, tc_url);
  uint8_t o[1536 + 4 * URL_MAX];
  memcpy(o, v->shake + 1, 1536); // C2 echoes S1
  v->state = CONNECTED;
  v->rtmp = must(malloc(sizeof *v->rtmp));
  rtmp_reader_init(v->rtmp);
  say(v, o, rtmp_connect(o + 1536, app, tc_url, 128) - o);
  if (v->state != GONE && v->in > HANDSHAKE_S0S1S2) on_rtmp(v, v->shake + HANDSHAKE_S0S1S2, v->in - HANDSHAKE_S0S1S2);
}

static void on_http_shake(Viewer *v) {
  uint8_t *end = memmem(v->shake, (size_t)v->in, "\r\n\r\n", 4);
  if (!end) {
    if (v->in == SHAKE_ROOM) leave(v, &refused);
    return;
  }
  end += 4;
  *(end - 1) = 0;
  char *head = (char *)v->shake;
  if (!*status) {
    snprintf(status, sizeof status, "%.*s", (int)strcspn(head, "\r\n\"\\"), head);
  }
  if (strlen(head) < 12 || atoi(head + 9) != (is_ws ? 101 : 200)) {
    leave(v, &refused);
    return;
  }
  key_finder_init(&v->flv, is_ws ? WEBSOCKET : strcasestr(head, "\nTransfer-Encoding: chunked") ? CHUNKED : PLAIN);
  int rest = (int)(v->shake + v->in - end);
  v->state = BODY;
  if (rest) on_body(v, end, rest);
  if (v->state == BODY) begin_body(v);
}

static void on_readable(Viewer *v) {
  if (v->state == BODY) {
    int look = v->probe || !v->key_seen;
    ssize_t n = recv(v->fd, room, sizeof room, look ? 0 : MSG_TRUNC);
    if (n > 0) {
      on_body(v, look ? room : NULL, (int)n);
      if (v->rtmp && v->state == BODY) on_rtmp(v, room, (int)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) leave(v, &closed_early);
    return;
  }
  if (v->state == CONNECTED || v->state == CREATED) {
    ssize_t n = recv(v->fd, room, sizeof room, 0);
    if (n > 0) on_rtmp(v, room, (int)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR)) leave(v, &closed_early);
    return;
  }
  ssize_t n = recv(v->fd, v->shake + v->in, (size_t)(SHAKE_ROOM - v->in), 0);
  if (n > 0) {
    v->in += (int)n;
    if (is_rtmp) on_rtmp_shake(v);
    else on_http_shake(v);
  } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) leave(v, &closed_early);
}

static void on_event(Viewer *v, uint32_t events) {
  if (v->state == GONE || v->state == IDLE) return;
  if (v->stopped) {
    if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) leave(v, &stalled_closed);
    return;
  }
  if (v->state == CONNECTING) {
    if (socket_error(v->fd)) {
      leave(v, &connect_errors);
      return;
    }
    if (!(events & EPOLLOUT)) return;
    watch(ep, EPOLL_CTL_MOD, v->fd, EPOLLIN, v);
    ask(v);
    return;
  }
  on_readable(v);
  if (stay && v->stalls && v->key_seen && v->state == BODY) {
    v->stopped = 1;
    watch(ep, EPOLL_CTL_MOD, v->fd, EPOLLRDHUP, v);
  }
}

static void churn(Viewer *viewers, int opened, int64_t now) {
  for (int i = 0; i < opened; i++) {
    Viewer *v = &viewers[i];
    if (now < v->leaves) continue;
    if (v->state == GONE) {
      free(v->rtmp);
      v->rtmp = NULL;
      rejoined++;
      join(v, now);
    } else if (!v->stopped) leave(v, NULL);
    else if (v->leaves + 60000000LL < now) leave(v, NULL); // a staller that nobody closes leaves a minute later
  }
}

static void report(const Viewer *viewers, int64_t elapsed, double cpu) {
  Samples got = {0};
  int64_t bytes = 0, reads = 0;
  int connected = 0, slow = 0;
  for (int i = 0; i < count; i++) {
    const Viewer *v = &viewers[i];
    bytes += v->bytes - v->bytes_at_start, reads += v->reads - v->reads_at_start;
    if (v->state != BODY || v->stopped) continue;
    connected++;
    add_sample(&got, (double)(v->bytes - v->bytes_at_start));
  }
  sort_samples(&got);
  for (int i = 0; i < got.n; i++) slow += got.v[i] < 0.9 * percentile(&got, .5);
  double s = (double)elapsed / 1e6;
  printf("{\"viewers\":%d,\"connected\":%d,\"connect_errors\":%d,\"refused\":%d,\"closed_early\":%d,\"rejoined\":%d,", count, connected, connect_errors, refused, closed_early, rejoined);
  printf("\"stalled\":%d,\"stalled_closed\":%d,\"status\":\"%s\",\"seconds\":%.3f,\"bytes\":%lld,", stalling, stalled_closed, status, s, (long long)bytes);
  printf("\"viewer_bytes\":{\"min\":%.0f,\"median\":%.0f,\"max\":%.0f},\"slow_viewers\":%d,", percentile(&got, 0), percentile(&got, .5), percentile(&got, 1), slow);
  print_samples("first_byte_ms", &first_byte), printf(",");
  print_samples("key_frame_ms", &key_frame), printf(",");
  print_samples("latency_ms", &latency);
  printf(",\"reads_per_viewer_s\":%.1f,\"client_cpu_s\":%.2f}\n", connected ? (double)reads / connected / s : 0, cpu);
}

int main(int argc, char **argv) {
  const char *one = NULL, *list = NULL;
  for (int o; (o = getopt(argc, argv, "u:l:n:r:w:t:p:j:z:x:")) != -1;) switch (o) {
    case 'u': one = optarg; break;
    case 'l': list = optarg; break;
    case 'n': count = atoi(optarg); break;
    case 'r': rate = atoi(optarg); break;
    case 'w': warm = atoi(optarg); break;
    case 't': window = atoi(optarg); break;
    case 'p': probes = atoi(optarg); break;
    case 'j': joiners = atoi(optarg); break;
    case 'z': stalling = atoi(optarg); break;
    case 'x': stay = atoi(optarg); break;
    default: return 2;
    }
  if (count < 1 || rate < 1 || stalling > count) die("-n and -r must be at least 1, -z at most -n");
  if (!joiners || joiners > count) joiners = count;
  if (probes > count - stalling) probes = count - stalling;
  signal(SIGPIPE, SIG_IGN), signal(SIGTERM, on_signal), signal(SIGINT, on_signal);
  setvbuf(stdout, NULL, _IOLBF, 0);
  url = load_urls(&paths, one, list, 80);
  is_rtmp = !strcmp(url.scheme, "rtmp"), is_ws = !strcmp(url.scheme, "ws");
  if (!is_rtmp && !is_ws && strcmp(url.scheme, "http")) die("http://, ws:// or rtmp://");
  if (is_rtmp && url.port == 80) url.port = 1935;
  address = loopback(&url);
  raise_file_limit(count);
  Viewer *viewers = must(calloc((size_t)count, sizeof *viewers));
  ep = epoll_create1(EPOLL_CLOEXEC);

  int opened = 0;
  int64_t begin = now_us(), ramped = 0, start = 0, end = 0, churned = 0;
  double cpu = 0;
  struct epoll_event events[512];
  while (!stopping) {
    int64_t now = now_us();
    while (opened < count && (now - begin) * rate / 1000000 >= opened) {
      Viewer *v = &viewers[opened];
      v->index = opened;
      v->stalls = opened >= count - stalling;
      // Servers write to their viewers in some order: probes at even distances see the first and the last of it.
      v->probe = !v->stalls && probes && (long)opened * probes / (count - stalling) != (long)(opened + 1) * probes / (count - stalling);
      join(v, now_us());
      opened++;
    }
    if (!ramped && opened == count) ramped = now, printf("RAMPED\n");
    if (ramped && !measuring && now - ramped >= warm * 1000000LL) {
      for (int i = 0; i < count; i++) {
        Viewer *v = &viewers[i];
        v->bytes_at_start = v->bytes, v->reads_at_start = v->reads;
        if (v->stalls && v->state == BODY && !v->stopped) v->stopped = 1, watch(ep, EPOLL_CTL_MOD, v->fd, EPOLLRDHUP, v);
      }
      measuring = 1, start = now, cpu = own_cpu();
      printf("MEASURE_START\n");
    }
    if (measuring && now - start >= window * 1000000LL) break;
    if (stay && now - churned > 100000) churn(viewers, opened, churned = now);
    int n = epoll_wait(ep, events, 512, opened < count ? 2 : 20);
    for (int i = 0; i < n; i++) on_event(events[i].data.ptr, events[i].events);
  }
  end = now_us();
  printf("MEASURE_END\n");
  report(viewers, measuring ? end - start : end - begin, own_cpu() - cpu);
  return 0;
}
