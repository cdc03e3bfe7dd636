package main

import (
	"fmt"
	"strings"
)

// Options of ossfs 1.91 (my_fuse_opt_proc in https://github.com/aliyun/ossfs/blob/main-v1/src/s3fs.cpp); a trailing =
// is an option with a value.
const ossfsOptions = `
	_netdev accessKeyId= ahbe_conf= allow_other auto bucket= check_cache_dir_exist cipher_suites= cloudbox_id=
	complement_stat connect_timeout= curldbg curldbg= dbglevel= default_acl= del_cache direct_read
	direct_read_backward_chunks= direct_read_chunk_size= direct_read_local_file_cache_size_mb=
	direct_read_prefetch_chunks= direct_read_prefetch_limit= direct_read_prefetch_thread= disable_noobj_cache
	download_traffic_limit= enable_content_md5 enable_unsigned_payload endpoint= ensure_diskfree= fake_diskfree=
	fd_page_size= free_space_ratio= gid= host= instance_name= list_object_max_keys= listobjectsv2 load_sse_c= logfile=
	max_dirty_data= max_stat_cache_size= mime= mp_umask= multipart_copy_size= multipart_size= multipart_threshold=
	multireq_max= no_check_certificate no_time_stamp_msg noauto nocopyapi nodnscache nomixupload nomultipart nonempty
	norenameapi noshallowcopyapi nosscache notsup_compat_dir noua nouser noxmlns parallel_count= parallel_upload=
	passwd_file= public_bucket= ram_role= readdir_check_size= readdir_optimize readwrite_timeout= region=
	requester_pays retries= secretAccessKey= servicepath= sigv1 sigv4 simulate_mtime_ns_with_crc64
	singlepart_copy_limit= skip_clean_statcache_on_ro_flush ssl_verify_hostname= stat_cache_expire=
	stat_cache_interval_expire= storage_class= symlink_in_meta tmpdir= uid= umask= upload_traffic_limit= url=
	use_cache= use_metrics use_path_request_style use_rrs use_rrs= use_sse use_sse= use_wtf8 use_xattr use_xattr= user
	users`

// Options of the FUSE library that ossfs 1 hands on (https://man7.org/linux/man-pages/man8/mount.fuse3.8.html, and
// those that only libfuse 2 has).
const fuseOptions = `
	allow_root async async_read atime attr_timeout= auto_cache auto_unmount big_writes blkdev congestion_threshold=
	debug default_permissions dev direct_io dirsync entry_timeout= exec fsname= hard_remove intr intr_signal=
	kernel_cache large_read max_background= max_idle_threads= max_read= max_readahead= max_write= negative_timeout=
	noatime nodev noexec noforget nopath nosuid readdir_ino remember= ro rw subtype= suid sync sync_read use_ino`

var knownOptions = func() map[string]bool {
	known := map[string]bool{}
	for _, option := range strings.Fields(ossfsOptions + fuseOptions) {
		known[option] = true
	}
	return known
}()

// parseOtherOpts splits "-o a -o b=1,c" into its options. As in the plugin, each has to follow a -o.
func parseOtherOpts(otherOpts string) ([]string, error) {
	var options []string
	follows := false
	for _, word := range strings.Fields(otherOpts) {
		value, isOption := strings.CutPrefix(word, "-o")
		switch {
		case follows:
			options = append(options, strings.Split(word, ",")...)
			follows = false
		case !isOption:
			return nil, fmt.Errorf("invalid otherOpts: %q", otherOpts)
		case value == "":
			follows = true
		default:
			options = append(options, strings.Split(value, ",")...)
		}
	}
	return options, nil
}

// checkOptions refuses what the program ossfs refuses when it starts.
func checkOptions(options []string) error {
	for _, option := range options {
		name, _, hasValue := strings.Cut(option, "=")
		if name == "accessKeyId" || name == "secretAccessKey" {
			return fmt.Errorf("ossfs: option %s is no longer supported.", name)
		}
		if hasValue {
			name += "="
		}
		if !knownOptions[name] {
			return fmt.Errorf("fuse: unknown option `%s'", option)
		}
	}
	return nil
}

// valueOf is the value of the last option name, or fallback.
func valueOf(options []string, name, fallback string) string {
	for _, option := range options {
		if key, value, _ := strings.Cut(option, "="); key == name {
			fallback = value
		}
	}
	return fallback
}

func has(options []string, name string) bool {
	for _, option := range options {
		if option == name {
			return true
		}
	}
	return false
}
