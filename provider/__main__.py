"""The components for programs in any of Pulumi's languages: ``pulumi package add`` with this folder."""

from deepseek_acs.components.public.provider import serve

serve()
