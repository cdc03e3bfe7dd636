"""Distributed inference of DeepSeek-R1 671B and its like on Alibaba Cloud ACS: what the components stand on.

In a checkout the components are next to it, in ``components/``; an installed wheel has them as
``deepseek_acs.components``."""
