// httpload: asks for one URL again and again over C keep-alive connections, one request at a time on each.
//
//   httpload -u URL        http:// on loopback
//            -c C          connections (50)
//            -w SECONDS    before the measured window (1)
//            -t SECONDS    length of the measured window (5)
//
// stdout: MEASURE_START and MEASURE_END as they happen, then one JSON line: answers within the window, their bytes
// (bodies), answers other than 200, time to answer.
#include "common.h"

enum { HEAD_ROOM = 16384, BIG = 1 << 20 };

typedef struct {
  enum { CONNECTING, HEAD, BODY, CHUNKS, GONE } state;
  int fd, in, last_len, closing;
  int64_t asked, left, body;
  char head[HEAD_ROOM], last[5]; // the end of a chunked body: 0 CR LF CR LF
} Asker;

static int count = 50, warm = 1, window = 5;
static Url url;
static struct sockaddr_in address;
static char request[URL_MAX + 256];
static int request_len, ep, measuring;
static long long answers, bytes, bad, errors, reconnects;
static int64_t body_size;
static Samples answer_time;
static char big[BIG];

static void connect_asker(Asker *a) {
  a->state = CONNECTING, a->in = 0;
  a->fd = dial(&address, 0);
  if (a->fd < 0) {
    a->state = GONE, errors++;
    return;
  }
  watch(ep, EPOLL_CTL_ADD, a->fd, EPOLLIN | EPOLLOUT, a);
}

static void again(Asker *a, long long *counter) {
  close(a->fd);
  ++*counter;
  if (errors > 1000) die("too many failed connections");
  connect_asker(a);
}

static void ask(Asker *a) {
  a->state = HEAD, a->in = 0, a->body = 0, a->last_len = 0, a->closing = 0;
  a->asked = now_us();
  if (send(a->fd, request, (size_t)request_len, MSG_NOSIGNAL) != request_len) again(a, &errors);
}

static void answered(Asker *a) {
  if (measuring) {
    answers++, bytes += a->body, body_size = a->body;
    add_sample(&answer_time, (double)(now_us() - a->asked) / 1e3);
  }
  if (a->closing) again(a, &reconnects);
  else ask(a);
}

// 1 when the body ends within these bytes; a client that sends one request at a time sees nothing behind the end
static int chunks_end(Asker *a, const char *d, int n) {
  char all[10];
  int k = n < 5 ? n : 5, total;
  memcpy(all, a->last, (size_t)a->last_len);
  memcpy(all + a->last_len, d + n - k, (size_t)k);
  total = a->last_len + k;
  a->last_len = total < 5 ? total : 5;
  memmove(a->last, all + total - a->last_len, (size_t)a->last_len);
  return a->last_len == 5 && !memcmp(a->last, "0\r\n\r\n", 5);
}

static void on_head(Asker *a) {
  char *end = memmem(a->head, (size_t)a->in, "\r\n\r\n", 4);
  if (!end) {
    if (a->in == HEAD_ROOM) again(a, &errors);
    return;
  }
  end += 4;
  end[-1] = 0;
  int rest = (int)(a->head + a->in - end);
  if (strncmp(a->head + 9, "200", 3) && measuring) bad++;
  a->closing = strcasestr(a->head, "\nConnection: close") != NULL;
  a->body = rest;
  if (strcasestr(a->head, "\nTransfer-Encoding: chunked")) {
    a->state = CHUNKS;
    if (rest && chunks_end(a, end, rest)) answered(a);
    return;
  }
  const char *length = strcasestr(a->head, "\nContent-Length:");
  if (!length) die("an answer without Content-Length that is not chunked");
  a->left = atoll(length + 16) - rest;
  a->state = BODY;
  if (a->left <= 0) answered(a);
}

static void on_readable(Asker *a) {
  ssize_t n;
  if (a->state == HEAD) n = recv(a->fd, a->head + a->in, (size_t)(HEAD_ROOM - a->in), 0);
  else n = recv(a->fd, big, sizeof big, a->state == BODY ? MSG_TRUNC : 0);
  if (n == 0 || (n < 0 && errno != EAGAIN)) again(a, &errors);
  if (n <= 0) return;
  if (a->state == HEAD) {
    a->in += (int)n;
    on_head(a);
    return;
  }
  a->body += n;
  if (a->state == BODY ? (a->left -= n) <= 0 : chunks_end(a, big, (int)n)) answered(a);
}

int main(int argc, char **argv) {
  const char *where = NULL;
  for (int o; (o = getopt(argc, argv, "u:c:w:t:")) != -1;) switch (o) {
    case 'u': where = optarg; break;
    case 'c': count = atoi(optarg); break;
    case 'w': warm = atoi(optarg); break;
    case 't': window = atoi(optarg); break;
    default: return 2;
    }
  if (!where) die("-u URL is needed");
  if (count < 1) die("-c must be at least 1");
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  url = parse_url(where, 80);
  if (strcmp(url.scheme, "http")) die("http:// only");
  address = loopback(&url);
  raise_file_limit(count);
  request_len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: httpload\r\nAccept: */*\r\n\r\n", url.path, url.host, url.port);
  ep = epoll_create1(EPOLL_CLOEXEC);
  Asker *askers = must(calloc((size_t)count, sizeof *askers));
  for (int i = 0; i < count; i++) connect_asker(&askers[i]);
  int64_t begin = now_us(), start = 0, now;
  double cpu = 0;
  struct epoll_event events[256];
  while ((now = now_us()), !measuring || now - start < window * 1000000LL) {
    if (!measuring && now - begin >= warm * 1000000LL) measuring = 1, start = now, cpu = own_cpu(), printf("MEASURE_START\n");
    int n = epoll_wait(ep, events, 256, 20);
    for (int i = 0; i < n; i++) {
      Asker *a = events[i].data.ptr;
      if (a->state == CONNECTING) {
        if (socket_error(a->fd)) die("cannot connect");
        watch(ep, EPOLL_CTL_MOD, a->fd, EPOLLIN, a);
        ask(a);
      } else if (a->state != GONE) on_readable(a);
    }
  }
  printf("MEASURE_END\n");
  printf("{\"answers\":%lld,\"bytes\":%lld,\"body_bytes\":%lld,\"not_200\":%lld,\"errors\":%lld,\"reconnects\":%lld,\"seconds\":%.3f,", answers, bytes, (long long)body_size, bad, errors, reconnects, (double)(now - start) / 1e6);
  print_samples("answer_ms", &answer_time);
  printf(",\"client_cpu_s\":%.2f}\n", own_cpu() - cpu);
  return 0;
}
