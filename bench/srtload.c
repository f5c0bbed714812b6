// srtload: pushes or plays over SRT with libsrt, in one thread of its own.
//
//   srtload push -f FILE -l LIST [-t SECONDS] [-L MS] [-k BYTES -p PASSPHRASE]
//   srtload play -l LIST -n N [-t SECONDS] [-w SECONDS] [-r RATE] [-L MS]
//
// FILE: chunks of a transport stream: u32 milliseconds, u16 size, the bytes; big-endian; all chunks of a picture have one
// time. It is repeated, with the time of one picture between. LIST: one "PORT STREAMID" a line; loopback only. Players share
// local ports, fifteen on each, so that libsrt needs few threads.
//   -t SECONDS  of the measurement (10)      -w SECONDS  before it (4)       -r RATE   new players a second (50)
//   -L MS       latency (120)
//
// A stamp in a picture (see STAMP in common.h) gets the time at which the picture is sent. stdout: "PUBLISHING <n>", or
// "MEASURE_START" and "MEASURE_END"; at the end one JSON line.
#include "common.h"
#include <srt/srt.h>

enum { CHUNK = 1316, MAX_STREAMS = 2000, ON_A_PORT = 15 };

typedef struct {
  uint32_t ms;
  int size, stamp; // place of the hexadecimal digits of the stamp; -1: none
  uint8_t *data;
} Chunk;

typedef struct {
  SRTSOCKET s;
  int next, holes, live;
  int64_t began;
  long long sent, bytes;
  uint8_t cc[8192];
} Stream;

static char *lists[MAX_STREAMS];
static int ports[MAX_STREAMS], list_count;
static Chunk *chunks;
static int chunk_count;
static uint32_t span;
static Stream streams[MAX_STREAMS];
static const char *passphrase = "";
static int key_size = 16, latency = 120, seconds = 10, warm = 4, rate = 50, count = 0;
static volatile sig_atomic_t stopping;

static void on_signal(int s) { (void)s, stopping = 1; }

static void load_chunks(const char *name) {
  FILE *f = fopen(name, "rb");
  if (!f) {
    perror(name);
    exit(2);
  }
  uint8_t head[6];
  int room = 0;
  while (fread(head, 1, 6, f) == 6) {
    if (chunk_count == room) chunks = must(realloc(chunks, sizeof *chunks * (size_t)(room = room ? 2 * room : 4096)));
    Chunk *c = &chunks[chunk_count++];
    c->ms = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
    c->size = head[4] << 8 | head[5];
    if (c->size > CHUNK) die("a chunk of the file is too long");
    c->data = must(malloc(CHUNK));
    if ((int)fread(c->data, 1, (size_t)c->size, f) != c->size) die("the file is cut");
    uint8_t *p = memmem(c->data, (size_t)c->size, STAMP, STAMP_LEN);
    c->stamp = p && p + STAMP_ALL <= c->data + c->size ? (int)(p + STAMP_LEN - c->data) : -1;
  }
  fclose(f);
  if (!chunk_count) die("no chunks");
  span = chunks[chunk_count - 1].ms + 33;
}

static void load_list(const char *name) {
  FILE *f = fopen(name, "r");
  char line[1024];
  if (!f) {
    perror(name);
    exit(2);
  }
  while (list_count < MAX_STREAMS && fgets(line, sizeof line, f)) {
    line[strcspn(line, "\n")] = 0;
    char *space = strchr(line, ' ');
    if (!space) continue;
    ports[list_count] = atoi(line);
    lists[list_count++] = must(strdup(space + 1));
  }
  fclose(f);
  if (!list_count) die("the list is empty");
}

static SRTSOCKET open_socket(int n, int index, int port) {
  SRTSOCKET s = srt_create_socket();
  int yes = 1, no = 0, buffer = 4 << 20;
  srt_setsockflag(s, SRTO_LATENCY, &latency, sizeof latency);
  srt_setsockflag(s, SRTO_STREAMID, lists[n], (int)strlen(lists[n]));
  srt_setsockflag(s, SRTO_UDP_RCVBUF, &buffer, sizeof buffer);
  srt_setsockflag(s, SRTO_UDP_SNDBUF, &buffer, sizeof buffer);
  srt_setsockflag(s, SRTO_REUSEADDR, &yes, sizeof yes);
  if (*passphrase) {
    srt_setsockflag(s, SRTO_PASSPHRASE, passphrase, (int)strlen(passphrase));
    srt_setsockflag(s, SRTO_PBKEYLEN, &key_size, sizeof key_size);
  }
  static struct sockaddr_in shared;
  struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (index % ON_A_PORT) local = shared;
  if (srt_bind(s, (struct sockaddr *)&local, sizeof local)) return SRT_INVALID_SOCK;
  int size = sizeof shared;
  if (!(index % ON_A_PORT)) srt_getsockname(s, (struct sockaddr *)&shared, &size);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (srt_connect(s, (struct sockaddr *)&to, sizeof to)) {
    fprintf(stderr, "%s: %s (%d)\n", lists[n], srt_getlasterror_str(), srt_getrejectreason(s));
    srt_close(s);
    return SRT_INVALID_SOCK;
  }
  srt_setsockflag(s, SRTO_RCVSYN, &no, sizeof no);
  srt_setsockflag(s, SRTO_SNDSYN, &no, sizeof no);
  return s;
}

// ---- push ----

static int push_due(Stream *v, int64_t now, int64_t *late) {
  int sent = 0;
  while (v->began + (int64_t)chunks[v->next].ms * 1000 <= now) {
    Chunk *c = &chunks[v->next];
    int64_t behind = now - v->began - (int64_t)c->ms * 1000;
    if (behind > *late) *late = behind;
    if (c->stamp >= 0) {
      char hex[STAMP_HEX + 1];
      snprintf(hex, sizeof hex, "%016llx", (unsigned long long)now);
      memcpy(c->data + c->stamp, hex, STAMP_HEX);
    }
    if (srt_sendmsg2(v->s, (char *)c->data, c->size, NULL) != c->size) {
      v->live = 0;
      fprintf(stderr, "push: %s\n", srt_getlasterror_str());
      return sent;
    }
    v->sent++, sent++;
    if (++v->next == chunk_count) v->next = 0, v->began += (int64_t)span * 1000;
  }
  return sent;
}

static int push(void) {
  count = list_count;
  int live = 0;
  for (int i = 0; i < count && !stopping; i++) {
    Stream *v = &streams[i];
    v->s = open_socket(i, i, ports[i]);
    v->live = v->s != SRT_INVALID_SOCK;
    v->began = now_us() + i * 33000 / count; // spread over the time of a picture
    live += v->live;
    int64_t late = 0;
    for (int k = 0; k < i; k++)
      if (streams[k].live) push_due(&streams[k], now_us(), &late);
  }
  printf("PUBLISHING %d\n", live);
  fflush(stdout);
  int64_t end = now_us() + (int64_t)seconds * 1000000, late = 0;
  while (!stopping && (!seconds || now_us() < end)) {
    for (int i = 0; i < count; i++)
      if (streams[i].live) push_due(&streams[i], now_us(), &late);
    usleep(1000);
  }
  long long sent = 0, again = 0, lost = 0, dropped = 0;
  live = 0;
  for (int i = 0; i < count; i++) { // all have come before a connection ends
    Stream *v = &streams[i];
    if (!v->live) continue;
    size_t blocks = 1, bytes;
    for (int k = 0; k < 200 && !srt_getsndbuffer(v->s, &blocks, &bytes) && blocks; k++) usleep(10000);
    SRT_TRACEBSTATS t;
    if (!srt_bstats(v->s, &t, 0))
      live++, sent += t.pktSentUniqueTotal, again += t.pktRetransTotal, lost += t.pktSndLossTotal, dropped += t.pktSndDropTotal;
  }
  usleep((useconds_t)latency * 1000 + 200000);
  printf("{\"live\":%d,\"sent\":%lld,\"retransmitted\":%lld,\"lost\":%lld,\"dropped\":%lld,\"late_max_ms\":%.1f,"
         "\"client_cpu_s\":%.2f,\"chunks\":[", live, sent, again, lost, dropped, (double)late / 1000, own_cpu());
  for (int i = 0; i < count; i++) printf("%s%lld", i ? "," : "", streams[i].sent);
  printf("]}\n");
  fflush(stdout);
  for (int i = 0; i < count; i++)
    if (streams[i].s != SRT_INVALID_SOCK) srt_close(streams[i].s);
  return 0;
}

// ---- play ----

static void count_holes(Stream *v, const uint8_t *d, int n) {
  for (; n >= 188; d += 188, n -= 188) {
    int pid = (d[1] & 31) << 8 | d[2], cc = d[3] & 15;
    if (!(d[3] & 16) || pid == 0x1fff) continue;
    if (v->cc[pid] && (v->cc[pid] & 15) != ((cc - 1) & 15)) v->holes++;
    v->cc[pid] = (uint8_t)(0x80 | cc);
  }
}

static void read_all(int epoll) {
  SRT_EPOLL_EVENT ready[512];
  int n = srt_epoll_uwait(epoll, ready, 512, 20);
  char buffer[1500];
  for (int i = 0; i < n; i++) {
    Stream *v = NULL;
    for (int k = 0; k < count && !v; k++)
      if (streams[k].s == ready[i].fd) v = &streams[k];
    int got = 0;
    while (v && v->live && (got = srt_recvmsg(v->s, buffer, sizeof buffer)) > 0) {
      v->bytes += got;
      count_holes(v, (uint8_t *)buffer, got);
    }
    if (v && got < 0 && srt_getlasterror(NULL) != SRT_EASYNCRCV) v->live = 0, srt_epoll_remove_usock(epoll, v->s);
  }
}

static int play(void) {
  int epoll = srt_epoll_create(), events = SRT_EPOLL_IN, live = 0;
  for (int i = 0; i < count && !stopping; i++) {
    Stream *v = &streams[i];
    v->s = open_socket(i % list_count, i, ports[i % list_count]);
    v->live = v->s != SRT_INVALID_SOCK;
    if (v->live) srt_epoll_add_usock(epoll, v->s, &events);
    live += v->live;
    for (int64_t next = now_us() + 1000000 / rate; now_us() < next;) read_all(epoll);
  }
  int connected = live;
  for (int64_t end = now_us() + (int64_t)warm * 1000000; now_us() < end && !stopping;) read_all(epoll);
  long long before = 0, after = 0, dropped = 0, lost = 0, holes = 0;
  for (int i = 0; i < count; i++) before += streams[i].bytes, streams[i].holes = 0;
  printf("MEASURE_START\n");
  fflush(stdout);
  int64_t began = now_us();
  for (int64_t end = began + (int64_t)seconds * 1000000; now_us() < end && !stopping;) read_all(epoll);
  printf("MEASURE_END\n");
  fflush(stdout);
  double took = (double)(now_us() - began) / 1e6;
  live = 0;
  for (int i = 0; i < count; i++) {
    SRT_TRACEBSTATS t;
    live += streams[i].live, after += streams[i].bytes, holes += streams[i].holes;
    if (streams[i].live && !srt_bstats(streams[i].s, &t, 0)) dropped += t.pktRcvDropTotal, lost += t.pktRcvLossTotal;
  }
  printf("{\"connected\":%d,\"live\":%d,\"bytes\":%lld,\"seconds\":%.2f,\"lost\":%lld,\"dropped\":%lld,\"holes\":%lld,"
         "\"client_cpu_s\":%.2f}\n", connected, live, after - before, took, lost, dropped, holes, own_cpu());
  fflush(stdout);
  for (int i = 0; i < count; i++)
    if (streams[i].s != SRT_INVALID_SOCK) srt_close(streams[i].s);
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 2) die("srtload push|play …");
  int is_push = !strcmp(argv[1], "push");
  optind = 2;
  for (int c; (c = getopt(argc, argv, "f:l:t:L:k:p:n:w:r:")) != -1;) switch (c) {
    case 'f': load_chunks(optarg); break;
    case 'l': load_list(optarg); break;
    case 't': seconds = atoi(optarg); break;
    case 'L': latency = atoi(optarg); break;
    case 'k': key_size = atoi(optarg); break;
    case 'p': passphrase = optarg; break;
    case 'n': count = atoi(optarg); break;
    case 'w': warm = atoi(optarg); break;
    case 'r': rate = atoi(optarg); break;
    default: return 2;
    }
  if (!list_count || (is_push && !chunk_count) || count > MAX_STREAMS) die("srtload: -l is needed; push: -f");
  signal(SIGTERM, on_signal), signal(SIGINT, on_signal);
  srt_startup();
  int code = is_push ? push() : play();
  srt_cleanup();
  return code;
}
