/* A hash of weights, to tell a file from another network's or a damaged one; no seal against an
   attacker: that is what the manifest's SHA-256 are for. A sum over the words, each mixed with its
   place, so that it runs as fast as memory is read. library/weights_hash.py computes the same. */
#ifndef TMN_HASH_H
#define TMN_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t tmn_hash(const void *data, size_t bytes) {
    const unsigned char *next = data;
    uint64_t sum = bytes, place = 0;
    for (size_t left = bytes; left > 0;) {
        size_t size = left < sizeof(uint64_t) ? left : sizeof(uint64_t);
        uint64_t word = 0;
        if (size == sizeof word) memcpy(&word, next, sizeof word);
        else memcpy(&word, next, size);
        place += UINT64_C(0x9E3779B97F4A7C15);
        word = (word ^ place) * UINT64_C(0xBF58476D1CE4E5B9);
        sum += (word ^ (word >> 32)) * UINT64_C(0x94D049BB133111EB);
        next += size;
        left -= size;
    }
    return sum;
}

#endif
