// Finds the first key frame in what an FLV viewer receives: plain, HTTP-chunked or in WebSocket messages.
#pragma once
#include "rtmp.h"

typedef struct {
  enum { PLAIN, CHUNKED, WEBSOCKET } framing;
  // transport framing
  int stage, more, opcode;
  uint64_t left, size_of_chunk; // payload bytes left in this chunk or frame; its size while being read
  // FLV: bytes to skip, then a tag header of 11 bytes and the first two of its body
  uint32_t skip, size;
  int got, found;
  uint8_t head[13];
} KeyFinder;

static inline void key_finder_init(KeyFinder *k, int framing) {
  memset(k, 0, sizeof *k);
  k->framing = framing;
  k->skip = 9 + 4; // FLV header and the first PreviousTagSize
}

static inline int flv_bytes(KeyFinder *k, const uint8_t *d, int n) {
  for (int i = 0; i < n && !k->found;) {
    if (k->skip) {
      uint32_t step = k->skip < (uint32_t)(n - i) ? k->skip : (uint32_t)(n - i);
      k->skip -= step, i += (int)step;
      continue;
    }
    k->head[k->got++] = d[i++];
    if (k->got == 11) {
      k->size = (uint32_t)(k->head[1] << 16 | k->head[2] << 8 | k->head[3]);
      if ((k->head[0] & 31) != 9 || k->size < 2) k->skip = k->size + 4, k->got = 0;
    } else if (k->got == 13) {
      k->found = is_key_picture(k->head[11], k->head[12]);
      k->skip = k->size - 2 + 4, k->got = 0;
    }
  }
  return k->found;
}

// 1 once a key frame has begun within the bytes fed so far
static inline int key_finder_feed(KeyFinder *k, const uint8_t *d, int n) {
  if (k->framing == PLAIN) return flv_bytes(k, d, n);
  for (int i = 0; i < n && !k->found;) {
    if (k->left) { // payload
      int step = k->left < (uint64_t)(n - i) ? (int)k->left : n - i;
      if (k->opcode <= 2) flv_bytes(k, d + i, step); // a WebSocket control frame (8 and more) is no media
      k->left -= (uint64_t)step, i += step;
      continue;
    }
    uint8_t b = d[i++];
    if (k->framing == CHUNKED) { // [CR LF] hex size [;extension] CR LF
      if (k->stage == 0 && (b == '\r' || b == '\n')) continue;
      if (b == '\n') k->left = k->size_of_chunk, k->stage = 0, k->size_of_chunk = 0;
      else if (b == ';' || b == '\r') k->stage = 2;
      else if (k->stage != 2) k->stage = 1, k->size_of_chunk = k->size_of_chunk << 4 | (uint64_t)((b & 15) + (b >= 'A' ? 9 : 0));
    } else if (k->stage == 0) { // RFC 6455 section 5.2; a server's frames are not masked
      k->opcode = b & 15, k->stage = 1;
    } else if (k->stage == 1) {
      int l = b & 127;
      k->more = l == 126 ? 2 : l == 127 ? 8 : 0;
      k->size_of_chunk = k->more ? 0 : (uint64_t)l;
      k->stage = 2;
      if (!k->more) k->left = k->size_of_chunk, k->stage = 0;
    } else {
      k->size_of_chunk = k->size_of_chunk << 8 | b;
      if (!--k->more) k->left = k->size_of_chunk, k->stage = 0;
    }
  }
  return k->found;
}
