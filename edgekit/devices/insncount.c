/* A plugin for qemu-user (plugin API 1, QEMU 6 to 8): counts the instructions that an arm64 program executes.
 *
 * At each call of getppid, which stands for "now", it writes a line to standard error: how many instructions so far,
 * and how many of them are the dot products (SDOT, UDOT) and matrix products (SMMLA, UMMLA) of INT8 kernels.
 * Debian has no qemu-plugin.h, so what is used of it is declared here. For programs of one busy thread.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define GETPPID 173 /* on arm64 */

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*translated)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*called)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                       uint64_t, uint64_t);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, called);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int add, void *counter, uint64_t by);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = 1;

static uint64_t all, products;

/* Arm Architecture Reference Manual, C4.1: SDOT and UDOT by vector and by element, SMMLA, UMMLA and USMMLA. */
static int is_product(uint32_t word)
{
    int by_vector = (word & 0x9F20FC00) == 0x0E009400 && ((word >> 22) & 3) == 2;
    int by_element = (word & 0x9F00F400) == 0x0F00E000 && ((word >> 22) & 3) == 2;
    int of_matrices = (word & 0xDFE0FC00) == 0x4E80A400;
    return by_vector || by_element || of_matrices;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    size_t count = qemu_plugin_tb_n_insns(block);
    uint64_t found = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof word);
        found += is_product(word);
    }
    qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &all, count);
    if (found)
        qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &products, found);
}

static void on_syscall(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c,
                       uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    char line[80];
    if (number != GETPPID)
        return;
    int length = snprintf(line, sizeof line, "EDGEKIT-INSN %llu %llu\n", (unsigned long long)all,
                          (unsigned long long)products);
    if (write(2, line, (size_t)length) < 0)
        _exit(1);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    return 0;
}
