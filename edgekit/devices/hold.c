/* Holds a process to an older x86-64 instruction set: preloaded, it answers CPUID without the newer features.
 *
 * Linux can make CPUID fault (arch_prctl ARCH_SET_CPUID, where /proc/cpuinfo shows cpuid_fault). The fault arrives as
 * SIGSEGV; the handler runs the real CPUID, clears the bits of what $EDGEKIT_HOLD forbids, and steps over the
 * instruction. All else runs at native speed. Libraries that choose kernels by CPUID then choose the older ones.
 *
 * EDGEKIT_HOLD: avx512_vnni (no AMX, no bf16 and fp16 arithmetic), avx_vnni (no AVX-512 either), avx512 (its first
 * generation, without VNNI), avx2 (none of these). EDGEKIT_HELD tells the process that it is held. A process that
 * cannot be held ends with code 99. Bits: Intel SDM volume 2, CPUID leaf 7.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

/* What to clear: leaf 7 subleaf 0 (ebx, ecx, edx), subleaf 1 (eax, edx). */
struct mask {
    const char *name;
    uint32_t ebx0, ecx0, edx0, eax1, edx1;
};

/* edx of subleaf 0: amx_bf16, avx512_fp16, amx_tile, amx_int8. eax of subleaf 1: avx512_bf16, amx_fp16. */
#define NEWEST_EDX0 (BIT(22) | BIT(23) | BIT(24) | BIT(25))
#define NEWEST_EAX1 (BIT(5) | BIT(21))
/* ebx: avx512f, dq, ifma, pf, er, cd, bw, vl. ecx: vbmi, vbmi2, vnni, bitalg, vpopcntdq. */
#define AVX512_EBX0 (BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31))
#define AVX512_ECX0 (BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14))
/* edx: avx512_4vnniw, 4fmaps, vp2intersect. */
#define AVX512_EDX0 (BIT(2) | BIT(3) | BIT(8))
/* eax of subleaf 1: avx_vnni, avx_ifma. edx: avx_vnni_int8, avx_ne_convert, amx_complex, avx_vnni_int16, avx10. */
#define AVX_VNNI_EAX1 (BIT(4) | BIT(23))
#define NEWER_EDX1 (BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19))

static const struct mask masks[] = {
    {"avx512_vnni", 0, 0, NEWEST_EDX0, NEWEST_EAX1, NEWER_EDX1},
    {"avx_vnni", AVX512_EBX0, AVX512_ECX0, NEWEST_EDX0 | AVX512_EDX0, NEWEST_EAX1, NEWER_EDX1},
    {"avx512", 0, AVX512_ECX0, NEWEST_EDX0 | AVX512_EDX0, NEWEST_EAX1 | AVX_VNNI_EAX1, NEWER_EDX1},
    {"avx2", AVX512_EBX0, AVX512_ECX0, NEWEST_EDX0 | AVX512_EDX0, NEWEST_EAX1 | AVX_VNNI_EAX1, NEWER_EDX1},
};
static const struct mask *held;

static long let_fault(int on) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, (unsigned long)!on); }

static void answer(int number, siginfo_t *info, void *raw) {
    greg_t *regs = ((ucontext_t *)raw)->uc_mcontext.gregs;
    const unsigned char *at = (const unsigned char *)regs[REG_RIP];
    (void)info;
    if (at[0] != 0x0f || at[1] != 0xa2) { /* a real fault */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    uint32_t leaf = (uint32_t)regs[REG_RAX], sub = (uint32_t)regs[REG_RCX];
    uint32_t a = leaf, b, c = sub, d;
    let_fault(0);
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    let_fault(1);
    if (leaf == 7 && sub == 0) {
        b &= ~held->ebx0;
        c &= ~held->ecx0;
        d &= ~held->edx0;
    } else if (leaf == 7 && sub == 1) {
        a &= ~held->eax1;
        d &= ~held->edx1;
    }
    regs[REG_RAX] = a;
    regs[REG_RBX] = b;
    regs[REG_RCX] = c;
    regs[REG_RDX] = d;
    regs[REG_RIP] += 2;
}

__attribute__((constructor)) static void hold(void) {
    const char *wanted = getenv("EDGEKIT_HOLD");
    for (unsigned i = 0; wanted && i < sizeof masks / sizeof *masks; i++)
        if (!strcmp(wanted, masks[i].name))
            held = &masks[i];
    if (!held)
        return;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    if (sigaction(SIGSEGV, &action, 0) || let_fault(1))
        _exit(99);
    setenv("EDGEKIT_HELD", wanted, 1);
}
