/* A QEMU TCG plugin: the number of guest instructions executed, on stderr when the guest exits.

   With blocks=FILE it also writes, for every block of instructions that QEMU translated, a line: how
   often it was executed, and its instructions in hexadecimal, of four bytes each as aarch64 has them.

   The plugin header is not packaged with Debian's QEMU 7.2; these are the parts of its API used. */

#include <inttypes.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info_t qemu_info_t;

enum { QEMU_PLUGIN_CB_NO_REGS = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *block, void (*callback)(unsigned int, void *), int flags, void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block,
                                                        size_t index);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *instruction);
extern void qemu_plugin_register_atexit_cb(
    qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, void *), void *data);
extern void qemu_plugin_outs(const char *string);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

typedef struct block {
    struct block *next;
    _Atomic uint64_t executed;
    size_t count;
    uint32_t instructions[];
} block;

static _Atomic uint64_t executed; /* guest threads are host threads */
static const char *blocks_file;
static block *_Atomic blocks; /* none is ever taken out */

static void on_execution(unsigned int cpu, void *instructions) {
    (void)cpu;
    executed += (uintptr_t)instructions;
}

static void on_execution_of_block(unsigned int cpu, void *of) {
    (void)cpu;
    ((block *)of)->executed++;
}

/* None where there is no memory: then the counts do not add up to what was executed. */
static block *note(const struct qemu_plugin_tb *translated) {
    size_t count = qemu_plugin_tb_n_insns(translated);
    block *noted = malloc(sizeof *noted + count * sizeof *noted->instructions);
    if (!noted) return NULL;
    noted->executed = 0;
    noted->count = count;
    for (size_t i = 0; i < count; i++)
        memcpy(noted->instructions + i,
               qemu_plugin_insn_data(qemu_plugin_tb_get_insn(translated, i)),
               sizeof *noted->instructions);
    noted->next = blocks;
    while (!atomic_compare_exchange_weak(&blocks, &noted->next, noted)) {
    }
    return noted;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *translated) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(translated, on_execution, QEMU_PLUGIN_CB_NO_REGS,
                                         (void *)(uintptr_t)qemu_plugin_tb_n_insns(translated));
    block *noted = blocks_file ? note(translated) : NULL;
    if (noted)
        qemu_plugin_register_vcpu_tb_exec_cb(translated, on_execution_of_block,
                                             QEMU_PLUGIN_CB_NO_REGS, noted);
}

static void write_blocks(void) {
    FILE *file = fopen(blocks_file, "w");
    if (!file) return; /* who asked for it misses what is not there */
    for (const block *one = blocks; one; one = one->next) {
        fprintf(file, "%" PRIu64, one->executed);
        for (size_t i = 0; i < one->count; i++) fprintf(file, " %08" PRIx32, one->instructions[i]);
        fputc('\n', file);
    }
    fclose(file);
}

static void on_exit_of_guest(qemu_plugin_id_t id, void *data) {
    (void)id;
    (void)data;
    if (blocks_file) write_blocks();
    fprintf(stderr, "executed %" PRIu64 "\n", executed);
}

__attribute__((visibility("default"))) int qemu_plugin_install(
    qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    static const char option[] = "blocks=";
    (void)info;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], option, sizeof option - 1))
            blocks_file = strdup(argv[i] + sizeof option - 1);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_exit_of_guest, NULL);
    return 0;
}
