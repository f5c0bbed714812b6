// Shared by the load clients: clock, percentiles, the latency stamp, loopback-only addresses, lists of URLs.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define URL_MAX 2048

// The mark that rtmppush puts in an SEI before every video frame, followed by the sender's CLOCK_MONOTONIC in
// microseconds as 16 hex digits. No zero bytes, so no emulation prevention is ever needed.
#define STAMP "\xa5\x5a#LATENCY-PROBE"
#define STAMP_LEN 16
#define STAMP_HEX 16
#define STAMP_ALL (STAMP_LEN + STAMP_HEX)

static inline void die(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(2);
}
static inline void *must(void *p) {
  if (!p) die("out of memory");
  return p;
}

// ---- clock and CPU ----

static inline int64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
static inline double own_cpu(void) {
  struct rusage r;
  getrusage(RUSAGE_SELF, &r);
  return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

// ---- samples and their percentiles ----

typedef struct {
  double *v;
  int n, room;
} Samples;

static inline void add_sample(Samples *s, double x) {
  if (s->n == s->room) s->v = must(realloc(s->v, (size_t)(s->room = s->room * 2 + 1024) * sizeof *s->v));
  s->v[s->n++] = x;
}
static inline int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}
static inline void sort_samples(Samples *s) {
  if (s->n) qsort(s->v, (size_t)s->n, sizeof *s->v, ascending);
}
static inline double percentile(const Samples *s, double p) { return s->n ? s->v[(int)(p * (s->n - 1) + 0.5)] : 0; }

// "name":{"n":…,"p50":…,"p99":…,"max":…}; sorts the samples
static inline void print_samples(const char *name, Samples *s) {
  sort_samples(s);
  printf("\"%s\":{\"n\":%d,\"p50\":%.2f,\"p99\":%.2f,\"max\":%.2f}", name, s->n, percentile(s, .5), percentile(s, .99), percentile(s, 1));
}

// ---- addresses ----

typedef struct {
  char scheme[8], host[64], path[URL_MAX];
  int port;
} Url;

// scheme://host[:port]/path; ends the program when it is malformed
static inline Url parse_url(const char *text, int default_port) {
  Url u = {.port = default_port};
  const char *rest = strstr(text, "://");
  if (!rest || rest - text >= (long)sizeof u.scheme) die("not a URL (scheme://host[:port]/path)");
  memcpy(u.scheme, text, (size_t)(rest - text));
  rest += 3;
  const char *slash = strchr(rest, '/');
  const char *end = slash ? slash : rest + strlen(rest);
  const char *colon = memchr(rest, ':', (size_t)(end - rest));
  size_t host = (size_t)((colon ? colon : end) - rest);
  if (!host || host >= sizeof u.host) die("no host, or too long a host, in the URL");
  memcpy(u.host, rest, host);
  if (colon) u.port = atoi(colon + 1);
  if (u.port < 1 || u.port > 65535) die("no such port");
  if (strlen(end) >= sizeof u.path) die("URL too long");
  strcpy(u.path, slash ? slash : "/");
  return u;
}

// These programs make load: they speak to this machine only.
static inline struct sockaddr_in loopback(const Url *u) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)u->port)};
  const char *host = strcmp(u->host, "localhost") ? u->host : "127.0.0.1";
  if (inet_pton(AF_INET, host, &a.sin_addr) != 1 || (ntohl(a.sin_addr.s_addr) >> 24) != 127) die("refused: only loopback addresses (127.0.0.0/8)");
  return a;
}

// The paths that connections are given in turn: from -l FILE (one URL a line, all of one listener) or from -u URL.
typedef struct {
  char **path;
  int n;
} Paths;

static inline Url load_urls(Paths *p, const char *url, const char *file, int default_port) {
  Url first;
  if (!file) {
    if (!url) die("-u URL or -l FILE is needed");
    first = parse_url(url, default_port);
    p->path = must(malloc(sizeof *p->path));
    p->path[p->n++] = must(strdup(first.path));
    return first;
  }
  FILE *f = fopen(file, "r");
  if (!f) {
    perror(file);
    exit(2);
  }
  char line[URL_MAX];
  while (fgets(line, sizeof line, f)) {
    line[strcspn(line, "\r\n")] = 0;
    if (!*line) continue;
    Url u = parse_url(line, default_port);
    if (!p->n) first = u;
    else if (strcmp(u.scheme, first.scheme) || strcmp(u.host, first.host) || u.port != first.port) die("all URLs of a list must name one listener");
    p->path = must(realloc(p->path, (size_t)(p->n + 1) * sizeof *p->path));
    p->path[p->n++] = must(strdup(u.path));
  }
  fclose(f);
  if (!p->n) die("the list of URLs is empty");
  return first;
}
static inline const char *path_of(const Paths *p, int i) { return p->path[i % p->n]; }

// ---- sockets ----

// Starts a connection; -1 when that fails at once. receive_buffer 0 leaves the kernel's choice.
static inline int dial(const struct sockaddr_in *to, int receive_buffer) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
  if (fd < 0) return -1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (receive_buffer) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0 && errno != EINPROGRESS) {
    close(fd);
    return -1;
  }
  return fd;
}
static inline int socket_error(int fd) {
  int e = 0;
  socklen_t n = sizeof e;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n);
  return e;
}
static inline void watch(int ep, int op, int fd, uint32_t events, void *who) {
  struct epoll_event e = {.events = events, .data.ptr = who};
  epoll_ctl(ep, op, fd, &e);
}
// As many sockets as the hard limit allows.
static inline void raise_file_limit(int wanted) {
  struct rlimit r;
  getrlimit(RLIMIT_NOFILE, &r);
  r.rlim_cur = r.rlim_max;
  setrlimit(RLIMIT_NOFILE, &r);
  if (r.rlim_cur < (rlim_t)wanted + 16) die("the limit of open files is too low for so many connections (ulimit -n)");
}
